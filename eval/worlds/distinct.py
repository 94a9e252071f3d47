"""The first examples of an endless world that all ask something else."""

from collections.abc import Iterable

from icl.example import Example


def distinct(examples: Iterable[Example], size: int) -> list[Example]:
    """So many of the examples, the first of each question."""
    found: dict[str, Example] = {}
    for example in examples:
        found.setdefault(example.question, example)
        if len(found) == size:
            break
    return list(found.values())
