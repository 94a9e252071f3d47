r"""Completions that were saved before, from a file: scoring again without a model.

A line of the file is {"prompt": "Q: 9 * 2?\nA:", "completions": ["18", …]}, or with by="question"
{"question": "9 * 2?", "completions": ["18", …]}. The rows.jsonl of a run is of the second kind where its strategy has
one text per sample (direct, few-shot-cot, self-consistency, adaptive-self-consistency):

    icl eval gsm8k … --backend replay --model runs/x/rows.jsonl --backend-arg by=question --out runs/again

Rows of zero-shot-cot are refused: they hold two texts per sample, and the first would be replayed for both calls.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, StrictStr, ValidationError

from icl.backends.samples import Places, completions, dumped, key_of
from icl.backends.scripted import nearest
from icl.lm import Completion, Request
from icl.reading import lines
from templates.errors import DataError, UnscriptedPrompt, Unsupported, UserError
from templates.prompt import Prompt, is_chat, shown, turns


class Row(BaseModel):
    """One line of the file: a prompt as `templates.prompt.as_json` has it, or a question; and what was said to it.

    Other fields are ignored. Rows of the same prompt or question are read as one, in the order of the file.
    """

    prompt: StrictStr | list[Any] | None = None
    question: StrictStr | None = None
    completions: list[StrictStr]
    answers: list[StrictStr | None] | None = None  # of a run's rows: one for each sample, or none where there is one


@dataclass
class Replay:
    """A model that says what was saved. Sample i is the i-th completion saved; `Places` says how requests share them.

    A completion ends before a stop string of the request. No tokens are counted: no model ran.

    Args:
        path: a file of `Row`s, one JSON object on each line; may end in .gz.
        by: what finds a prompt's row. "prompt": the prompt itself, exactly. "question": the question that stands last
            in the prompt, in the last user's turn of a chat; for strategies that ask once per question, as every
            prompt about a question gets its completions.
        separator: what stands between a text's demonstrations; after the question there is none.
    """

    path: Path | str
    by: Literal["prompt", "question"] = field(default="prompt", kw_only=True)
    separator: str = field(default="\n\n", kw_only=True)

    def __post_init__(self) -> None:
        if self.by not in ("prompt", "question"):
            raise UserError(f'a replay finds rows by "prompt" or by "question", not by {self.by!r}')
        if not self.separator:
            raise UserError("a replay needs the template's separator, got an empty one")
        self._saved: dict[str, list[str]] = {}
        digest = blake2b(digest_size=4)
        for key, texts in _rows(Path(self.path), self.by):
            self._saved.setdefault(key, []).extend(texts)
            digest.update(json.dumps([key, texts]).encode())
        if not self._saved:
            raise DataError(f"{self.path} has no rows; give a file with at least one")
        self.name = f"replay/{Path(self.path).name}@{digest.hexdigest()}"
        self._places = Places()

    async def generate(self, request: Request) -> list[Completion]:
        """The saved completions.

        Raises:
            UnscriptedPrompt: no row for the prompt.
            Unsupported: more samples than were saved.
        """
        key = self._key(request.prompt)
        places = self._places.of(key, request)
        if max(places) >= len(saved := self._saved[key]):
            raise Unsupported(
                f"sample {max(places) + 1} was asked of a {self.by} with {len(saved)} completions in {self.path}: "
                f"{key[-120:]!r}; ask for fewer, or save more"
            )
        return completions(request, [saved[place] for place in places])

    def restart(self) -> None:
        """Begin again: every row at its first completion."""
        self._places.restart()

    def _key(self, prompt: Prompt) -> str:
        if self.by == "question":
            return asked_question(prompt, self._saved, self.separator)
        if (key := key_of(prompt)) not in self._saved:
            like = nearest(key, list(self._saved))
            raise UnscriptedPrompt(f"{self.path} has no row for the prompt {key}; the nearest one is {like}")
        return key


def asked_question(prompt: Prompt, questions: Iterable[str], separator: str) -> str:
    """The question that the prompt ends with: the last of the questions in it, and the longest where one holds another.

    It stands after the last separator, or reaches over it: so a demonstration's question is not taken for the query's.

    Raises:
        UnscriptedPrompt: there is none, or there are several side by side.
    """
    if is_chat(prompt):
        text = next((shown(turn.content) for turn in reversed(turns(prompt)) if turn.role == "user"), "")
    else:
        text = shown(prompt)
    last = text.rfind(separator) + 1
    places = [(at + len(q), -at, q) for q in questions if (at := text.rfind(q)) >= 0 and at + len(q) > last]
    if not places:
        raise UnscriptedPrompt(f"none of the saved questions stands at the end of the prompt …{text[-300:]!r}")
    _, before, question = max(places)
    if beside := [q for _, start, q in places if start > before]:
        raise UnscriptedPrompt(
            f"{len(beside) + 1} saved questions stand side by side at the end of the prompt, such as {beside[0]!r} and "
            f"{question!r}; give the template's separator, or replay by prompt"
        )
    return question


def _rows(path: Path, by: Literal["prompt", "question"]) -> Iterator[tuple[str, list[str]]]:
    for place, line in lines(path):
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            named = f", field {first['loc'][0]!r}" if first["loc"] else ""
            raise DataError(f"{place}{named}: {first['msg']}: {line.strip():.80}") from None
        if not (value := getattr(row, by)):
            raise DataError(f"{place}: no field {by!r}, by which this replay finds rows: {line.strip():.80}")
        if row.answers is not None and len(row.completions) > max(1, len(row.answers)):
            raise DataError(
                f"{place}: {len(row.completions)} texts of one reasoning path, asked for in as many calls; by question "
                "each call would get the first of them; replay a run whose strategy asks once for each sample"
            )
        yield value if by == "question" else dumped(value), row.completions
