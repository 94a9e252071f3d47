"""Examples from files and data sets. Data enters here, so every row is checked, and a bad one names its place."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import StrictBool, StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError

from icl.example import Example
from icl.reading import content, lines
from templates.errors import DataError

_ROW = TypeAdapter(dict[str, StrictStr | StrictInt | StrictFloat | StrictBool | None])
_GSM8K = "####"  # between rationale and answer in GSM8K's own rows


def load_examples(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    fields: Sequence[str] | None = None,
    answer: str = "answer",
    rationale: str = "rationale",
    split: str = "train",
    config: str | None = None,
    limit: int | None = None,
) -> list[Example]:
    """Read examples from a JSONL or CSV file (also .gz), from a data set of the hub, or from rows in memory.

    Args:
        source: a path, the name of a hub data set ("openai/gsm8k"), or rows: a `datasets.Dataset`, a list of mappings.
        fields: the input columns, the question first; by default all but answer, rationale and id, in the file's order.
        answer: the column that holds the answer. One with "####" is cut there into rationale and answer, as in GSM8K.
            (Its notes for a calculator, "<<48/2=24>>", stay in the rationale; the task `gsm8k` leaves them out.)
        rationale: the column that holds the reasoning, where there is one.
        split: of a hub data set.
        config: of a hub data set, such as "main".
        limit: at most so many rows, from the start.

    Raises:
        DataError: no such file, an empty one, or a bad row: names file, line and field.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit is at least 1, got {limit}")
    name, rows = _open(source, split, config)
    examples: list[Example] = []
    for place, row in islice(rows, limit):
        example = _example(row, f"{name}/{len(examples)}", place, fields, answer, rationale)
        if examples and (asked := next(iter(examples[0].fields))) not in example.fields:
            raise DataError(
                f"{place}: no field {asked!r}, which the first row has; the row has {sorted(example.fields)}"
            )
        examples.append(example)
    if not examples:
        raise DataError(f"{place_of(source)} has no rows; give a file with at least one example")
    doubles = len(examples) - len({example.id for example in examples})
    if doubles:
        raise DataError(f"{place_of(source)}: {doubles} rows repeat the id of another; ids must be unique")
    return examples


def place_of(source: object) -> str:
    """How a source is called in messages."""
    return str(source) if isinstance(source, str | Path) else f"the {type(source).__name__} handed in"


def _example(
    row: Any, default_id: str, place: str, fields: Sequence[str] | None, answer: str, rationale: str
) -> Example:
    try:
        values = {name: _text(value) for name, value in _ROW.validate_python(row).items() if value is not None}
    except ValidationError as error:
        first = error.errors()[0]
        field = f", field {first['loc'][0]!r}" if first["loc"] else ""
        raise DataError(f"{place}{field}: expected text or a number, got {first['input']!r:.80}") from error
    names = list(fields) if fields is not None else [n for n in values if n not in (answer, rationale, "id")]
    if missing := [name for name in names if name not in values]:
        raise DataError(f"{place}: no field {missing[0]!r}; the row has {sorted(values)}")
    if not names:
        raise DataError(f"{place}: no field to ask about; the row has {sorted(values)}")
    if not values[names[0]].strip():
        raise DataError(f"{place}, field {names[0]!r}: the question is empty")
    reasoning, found = values.get(rationale), values.get(answer)
    if found is not None and reasoning is None and _GSM8K in found:
        before, _, after = found.rpartition(_GSM8K)
        reasoning, found = before.strip(), after.strip()
    inputs = {name: values[name] for name in names}
    return Example(values.get("id") or f"{default_id}-{_digest(inputs)}", inputs, found, reasoning, place)


def _digest(inputs: Mapping[str, str]) -> str:
    # Rows without ids of their own, in two files of one name, are the same example only if they ask the same.
    return blake2b(json.dumps(inputs).encode(), digest_size=3).hexdigest()


def _text(value: str | float | bool) -> str:  # noqa: FBT001 - a value of a row
    return value if isinstance(value, str) else json.dumps(value)


def _open(
    source: str | Path | Iterable[Mapping[str, Any]], split: str, config: str | None
) -> tuple[str, Iterator[tuple[str, Any]]]:
    """A short name for ids, and the rows with their places."""
    if not isinstance(source, str | Path):
        return "rows", ((f"row {i}", dict(row)) for i, row in enumerate(source))
    path = Path(source)
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}
    if kind.removesuffix(".gz") in readers:
        return path.name.split(".")[0], readers[kind.removesuffix(".gz")](path)
    if path.exists():
        raise DataError(f"{path} is not a .jsonl, .json or .csv file (each may be .gz); convert it to one of them")
    return f"{path.name}-{split}", _hub(str(source), split, config)


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    for place, line in lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}: not JSON ({error.msg} at column {error.colno}): {line.strip():.80}") from error
        yield place, row


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.load(content(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} holds a JSON {type(rows).__name__}; expected a list of rows")
    return ((f"{path}, row {i}", row) for i, row in enumerate(rows))


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(content(path), restkey="(too many columns)", strict=True)
    try:
        for row in reader:
            yield f"{path}, line {reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV: {error}") from error


def _hub(name: str, split: str, config: str | None) -> Iterator[tuple[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            f"no file {name}, and to load a data set of that name from the hub the extra is missing: "
            "pip install 'icl-toolkit[hub]'"
        ) from error
    try:
        rows = load_dataset(name, config, split=split)
    except Exception as error:  # the hub's client raises a dozen kinds; each means the same here
        raise DataError(f"cannot load {name!r} ({split}) from the hub: {error}; give a local file instead") from error
    return ((f"{name} ({split}), row {i}", row) for i, row in enumerate(rows))
