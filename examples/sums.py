"""Word sums of two or three steps, generated: enough of them to train a tiny model, and others to ask it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from pathlib import Path
from random import Random
from typing import TypeAlias

MOST = 30  # no number in a question or in a rationale is larger, and none is negative

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo")
THINGS = ("apples", "books", "coins", "eggs", "pens", "shells", "stamps", "stones")
GAINS = ("finds", "buys")
LOSSES = ("loses", "sells")
ENDINGS = ("How many {things} are left?", "How many does {name} have now?", "How many {things} is that?")

Row: TypeAlias = dict[str, str]  # as in GSM8K's files: "question", and "answer" with the rationale before "####"


@dataclass(frozen=True)
class Sum:
    """What is there at first, and what comes or goes: `Sum(5, (3, -2))` is 5 + 3 - 2."""

    start: int
    changes: tuple[int, ...]

    @property
    def answer(self) -> int:
        """What is there in the end."""
        return self.start + sum(self.changes)

    def paths(self) -> list[str]:
        """Every rationale: an equation for each change, first to last or last to first, within 0 and `MOST`.

        >>> Sum(5, (3, -2)).paths()
        ['5 + 3 = 8. 8 - 2 = 6.', '5 - 2 = 3. 3 + 3 = 6.']
        """
        orders = dict.fromkeys((self.changes, self.changes[::-1]))
        levels = [(order, list(accumulate(order, initial=self.start))) for order in orders]
        return [
            " ".join(_equation(a, change, b) for change, (a, b) in zip(order, pairwise(reached), strict=True))
            for order, reached in levels
            if min(reached) >= 0 and max(reached) <= MOST
        ]


def worded(one: Sum, random: Random) -> str:
    """The sum as a story: in one sentence, or in a sentence for each change."""
    words = {"name": random.choice(NAMES), "things": random.choice(THINGS)}
    told = [f"has {one.start} {words['things']}"]
    told += [f"{random.choice(GAINS if change > 0 else LOSSES)} {abs(change)}" for change in one.changes]
    if random.random() < 0.5:  # noqa: PLR2004 - one of two
        story = f"{words['name']} {', '.join(told[:-1])} and {told[-1]}."
    else:
        story = " ".join(f"{words['name']} {clause}." for clause in told)
    return f"{story} {random.choice(ENDINGS).format(**words)}"


def rows(random: Random) -> Iterator[tuple[Sum, Row]]:
    """Endless sums, each with a row that tells it in random words and solves it from either end."""
    while True:
        one = Sum(random.randint(2, 12), tuple(_change(random) for _ in range(random.choice((2, 3, 3)))))
        if paths := one.paths():
            yield one, {"question": worded(one, random), "answer": f"{random.choice(paths)}\n#### {one.answer}"}


def split(seed: int, *, held_out: int, train: int) -> tuple[list[Row], list[Row]]:
    """So many rows to ask, and so many others to learn from: no sum of the first is among the second."""
    endless = rows(Random(seed))
    asked = dict(islice(endless, held_out))
    learnt = (row for one, row in endless if one not in asked)
    return list(asked.values()), list(islice(learnt, train))


def write(path: Path, content: Sequence[Row]) -> Path:
    """The rows as JSONL, whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return new.replace(path)


def _change(random: Random) -> int:
    return random.choice((-1, 1)) * random.randint(1, 9)


def _equation(a: int, change: int, b: int) -> str:
    return f"{a} {'+' if change > 0 else '-'} {abs(change)} = {b}."
