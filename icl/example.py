"""An example of a task: what is asked, its answer, and how one gets there."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Example:
    """One row of a data set.

    Args:
        id: names the example in reports, seeds its random numbers, and keeps it from becoming its own demonstration.
        fields: the inputs, by name; the first one is the question.
        answer: as written in the data, or None where it is not known.
        rationale: the reasoning that leads to the answer, where there is one.
        place: file and line that it is from, for messages.
    """

    id: str
    fields: Mapping[str, str]
    answer: str | None = None
    rationale: str | None = None
    place: str = field(default="", repr=False, compare=False)

    @property
    def question(self) -> str:
        """The first input field: what selectors compare."""
        return next(iter(self.fields.values()), "")

    @property
    def shown(self) -> Mapping[str, str]:
        """What a template can show: the inputs, and the rationale where there is one."""
        return self.fields if self.rationale is None else {**self.fields, "rationale": self.rationale}


@dataclass(frozen=True)
class Demo:
    """An example chosen as a demonstration; `score` says how useful, higher is better, comparable within one query."""

    example: Example
    score: float = 0.0
