"""How well readers agree with what is published for real model outputs: `python -m bench.reading_answers`.

Prints the table of docs/reading_answers.md. The data lie in ../shared/data; its SOURCES.md says where they come from.
"""

import argparse
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from templates import numerals
from templates.answers import Reader, boxed, lm_eval_flexible, lm_eval_strict, number, same_answer

DATA = Path(__file__).parents[2] / "shared" / "data"
PARTS = ("SOURCES.md", "gsm8k", "outputs/gsm8k_models", "outputs/rereading", "samples")


@dataclass(frozen=True)
class Output:
    """One model output, its gold answer, and whether its source called it right."""

    text: str
    gold: str
    label: bool | None = None


@dataclass(frozen=True)
class OutputSet:
    """Outputs that have one published accuracy, in percent, or labels, or neither."""

    name: str
    outputs: tuple[Output, ...]
    reported: float | None = None

    @property
    def labelled(self) -> bool:
        """Whether each output has a label."""
        return self.outputs[0].label is not None

    @property
    def published(self) -> float | None:
        """The accuracy reported, or that of the labels."""
        return percent([bool(output.label) for output in self.outputs]) if self.labelled else self.reported


def equals_as_in_lm_eval(read: str | None, gold: str) -> bool:
    """Compare as the harness does: strings, without `,`, `$`, a final `.` and case."""
    return read is not None and read.lower() == re.sub(r"[,$]", "", gold).removesuffix(".").lower()


def boxed_else_last(output: str) -> str | None:
    r"""The usual home-made rule: the last number in the last \boxed{}, else the last number."""
    return numerals.last(boxed(output) or "") or numerals.last(output)


READERS: dict[str, tuple[Reader, Callable[[str | None, str], bool]]] = {
    "ours": (number, same_answer),
    "strict": (lm_eval_strict, equals_as_in_lm_eval),
    "flexible": (lm_eval_flexible, equals_as_in_lm_eval),
    "boxed": (boxed_else_last, same_answer),
}


@cache
def right(reader: str, outputs: tuple[Output, ...]) -> tuple[bool, ...]:
    """Which outputs are right when they are read so."""
    read, equals = READERS[reader]
    return tuple(equals(read(output.text), output.gold) for output in outputs)


def agreement(reader: str, outputs: tuple[Output, ...]) -> float:
    """The share of outputs, in percent, that are right just where their label says so."""
    return percent([found == output.label for found, output in zip(right(reader, outputs), outputs, strict=True)])


def percent(hits: Sequence[bool]) -> float:
    """The share of hits in percent."""
    return 100 * sum(hits) / len(hits)


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file, which may be compressed."""
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


def own_solutions(data: Path = DATA) -> Iterator[OutputSet]:
    """GSM8K's own solutions, which end in "#### 18" and are all right."""
    for part in ("train", "test"):
        answers = [row["answer"] for row in rows(data / "gsm8k" / f"{part}.jsonl")]
        outputs = [Output(answer, answer.rsplit("#### ", 1)[1], label=True) for answer in answers]
        yield OutputSet(f"GSM8K {part}", tuple(outputs))


def example_solutions(data: Path = DATA) -> Iterator[OutputSet]:
    """GSM8K's own example solutions of four models, each labelled."""
    items = rows(data / "gsm8k" / "example_model_solutions.jsonl")
    for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
        solutions = [(item[model], item["ground_truth"].rsplit("A: ", 1)[1]) for item in items]
        yield OutputSet(model, tuple(Output(one["solution"], gold, one["is_correct"]) for one, gold in solutions))


def gsm8k_models(data: Path = DATA) -> Iterator[OutputSet]:
    """JSON-shaped outputs of 22 models, with accuracies as reported."""
    reported = dict(re.findall(r"^\| (\S+) \| ([\d.]+) \|$", (data / "SOURCES.md").read_text(), re.MULTILINE))
    for path in sorted((data / "outputs" / "gsm8k_models").glob("*.jsonl.gz")):
        name = path.name.removesuffix(".jsonl.gz")
        outputs = tuple(Output(row["output"], row["answer"].removeprefix("# ")) for row in rows(path))
        yield OutputSet(name, outputs, float(reported[name]) if name in reported else None)


def rereading(data: Path = DATA) -> Iterator[OutputSet]:
    r"""Two models, each asked plainly and for a chain of thought, most ending in \boxed{}; each output scored."""
    for path in sorted((data / "outputs" / "rereading").glob("*.gz")):
        for way in ("vanilla", "cot"):
            outputs = [
                Output((row[way]["generation"] or [""])[0], str(row["target"]), bool(row[way]["score"]))
                for row in rows(path)
            ]
            yield OutputSet(f"rereading {path.name.split('_')[-1].removesuffix('.jsonl.gz')} {way}", tuple(outputs))


def boxed_samples(data: Path = DATA) -> Iterator[OutputSet]:
    """One text for each vote of a 1.5B model on GSM8K, and 8 samples of MATH where gold is a number; all labelled."""
    votes = rows(data / "samples" / "gsm8k_votes_m8.jsonl.gz")
    outputs = [Output(row["generated_text"], row["gold_answer"], row["correct"]) for row in votes]
    yield OutputSet("GSM8K votes, 1.5B", tuple(outputs))
    samples = [
        Output(text, row["gt"], label)
        for row in rows(data / "samples" / "math_qwen_8_rewards.jsonl.gz")
        if numerals.exact(row["gt"])
        for text, label in zip(row["code"], row["score"], strict=True)
    ]
    yield OutputSet("MATH, numeric gold", tuple(samples))


def output_sets(data: Path = DATA) -> list[OutputSet]:
    """Every set, in the order of the table."""
    kinds = (own_solutions, example_solutions, rereading, boxed_samples, gsm8k_models)
    return [one for kind in kinds for one in kind(data)]


def table(data: Path) -> str:
    """Accuracy under each reader beside what is published, and agreement with the labels, in percent."""
    head = ["outputs of", "n", "published", *READERS, *(f"{reader} = label" for reader in READERS)]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for one in output_sets(data):
        published = "" if one.published is None else f"{one.published:.2f}"
        shares = [f"{percent(right(reader, one.outputs)):.2f}" for reader in READERS]
        labels = [f"{agreement(reader, one.outputs):.2f}" if one.labelled else "" for reader in READERS]
        lines.append([one.name, str(len(one.outputs)), published, *shares, *labels])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Print the table, where the data are at hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder with {', '.join(PARTS)}")
    data = parser.parse_args().data
    if missing := [part for part in PARTS if not (data / part).exists()]:
        print(f"{data} has no {', '.join(missing)}: nothing to measure; give the folder with --data")
        return 0
    print(table(data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
