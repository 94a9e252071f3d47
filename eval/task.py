"""What is evaluated: where its questions come from, how they are asked, when an answer is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.rows import Right
from icl.example import Example
from templates.answers import same_answer

Load = Callable[[str | Path | None, int | None], Sequence[Example]]


@dataclass(frozen=True)
class Task:
    """One evaluation task.

    Args:
        name: as on the command line.
        load: (path or None for the hub's test split, limit) -> questions with gold answers.
        load_pool: the same for the examples that demonstrations come from, the hub's training split by default.
        templates: the library's template for each strategy of the registry, plain and "-chat".
        demos: the library's demonstrations, used where neither a pool nor other demonstrations are given.
        right: whether a canonical answer is the gold one.
        about: one line for `icl list`.
    """

    name: str
    load: Load
    load_pool: Load
    templates: dict[str, str]
    demos: str
    about: str
    right: Right = same_answer
