"""What is evaluated: where its questions come from, how they are asked, when an answer is right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from eval.rows import Right
from icl.example import Example
from icl.loading import load_examples
from templates.answers import same_answer

Load = Callable[[str | Path | None, int | None], Sequence[Example]]


# The library's templates for word problems, by strategy.
WORD_PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "direct": "math.direct.v1",
        "few-shot-cot": "math.cot.v1",
        "zero-shot-cot": "math.zero-shot.v1",
        "self-consistency": "math.cot.v1",
        "adaptive-self-consistency": "math.cot.v1",
    }
)


@dataclass(frozen=True)
class Task:
    """One evaluation task.

    Args:
        name: as on the command line.
        load: (path or None for the hub's test split, limit) -> questions with gold answers.
        load_pool: the same for the examples that demonstrations come from, the hub's training split by default.
        templates: the library's template for each strategy that suits the task; where "-chat" is one too, for chats.
        about: one line for `icl list`.
        strategy: the one that is used where none is named.
        demos: the library's demonstrations, used where neither a pool nor other demonstrations are given; without any,
            demonstrations are drawn from the task's own pool.
        max_tokens: of a completion, where that is not said and the strategy's own would be too many.
        right: whether a canonical answer is the gold one.
    """

    name: str
    load: Load
    load_pool: Load
    templates: Mapping[str, str]
    about: str
    strategy: str = "self-consistency"
    demos: str | None = None
    max_tokens: int | None = None
    right: Right = same_answer


def generated(make: Callable[[], Sequence[Example]]) -> Load:
    """Loads from a file where one is named, and otherwise generates."""
    return lambda source, limit: load_examples(source, limit=limit) if source else make()[:limit]
