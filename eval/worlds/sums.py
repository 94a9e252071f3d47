"""Word problems of two to five steps: a number of things, and what becomes of it.

A problem is numbers first (`Sum`), words afterwards (`story`, `rationale`): so that nothing is held out in other words.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Literal, TypeAlias

from eval.worlds.distinct import distinct
from icl.example import Example

MOST = 60  # no total is larger, and none is negative
STEPS = (2, 3, 4, 5)  # equations that a problem takes
HELD_OUT = 8  # one problem in so many is never learnt from
DISTRACTED = 0.35  # share of the problems that tell something beside the point

Kind: TypeAlias = Literal["+", "-", "×"]

# name, pronoun, its other case
PEOPLE = (
    ("Ada", "she", "her"),
    ("Ben", "he", "him"),
    ("Cleo", "she", "her"),
    ("Dan", "he", "him"),
    ("Eva", "she", "her"),
    ("Finn", "he", "him"),
    ("Gita", "she", "her"),
    ("Hugo", "he", "him"),
    ("Ines", "she", "her"),
    ("Jon", "he", "him"),
)
THINGS = ("apples", "books", "coins", "eggs", "pens", "shells", "stamps", "stones", "cards", "nuts", "keys", "cups")
HOLDERS = ("bags", "boxes", "rows", "piles")
OPENINGS = ("{name} has {n} {things}.", "There are {n} {things} in the house of {name}.", "{name} owns {n} {things}.")
GROUPED_OPENINGS = (
    "{name} has {groups} {holders} with {n} {things} in each.",
    "{name} owns {groups} {holders} of {n} {things}.",
)
TOLD: dict[Kind, tuple[str, ...]] = {
    "+": (
        "{She} buys {n} more.",
        "{friend} gives {her} {n} {things}.",
        "Then {she} finds {n} {things}.",
        "{name} gets {n} more from {friend}.",
        "On the next day {she} picks up {n}.",
    ),
    "-": (
        "{She} loses {n} of them.",
        "{She} gives {n} {things} to {friend}.",
        "Then {she} sells {n} {things}.",
        "{friend} takes {n} of them away.",
        "On the next day {n} of them break.",
    ),
    "×": (
        "After a week {she} has {n} times as many.",
        "Then the number of {things} grows to {n} times what it was.",
        "{friend} makes it {n} times as many.",
    ),
}
GROUPED_TOLD: dict[Kind, tuple[str, ...]] = {
    "+": ("{She} buys {groups} {holders} of {n} {things}.", "{friend} brings {groups} {holders} with {n} in each."),
    "-": ("{She} sells {groups} {holders} of {n} {things}.", "{friend} takes {groups} {holders} with {n} in each."),
}
DISTRACTORS = (
    "{friend} has {n} {others}.",
    "{She} also has {n} {others}.",
    "{friend} is {n} years old.",
    "Each of the {things} costs {n} coins.",
    "It is {n} miles to the house of {friend}.",
)
ASKED = (
    "How many {things} does {name} have now?",
    "How many {things} does {she} have in the end?",
    "How many {things} are there now?",
    "What is the number of {things} that {name} has now?",
)
HASTY = 0.3  # share of the rationales that put what they can in one equation
CAREFUL = (  # before the equations, between them, after them
    ("First ", ". Then ", "."),
    ("We begin with {n}. ", ". ", "."),
    ("Step by step: ", ", and ", "."),
    ("Start at {n}: ", "; ", "."),
    ("So ", ". So ", "."),
    ("There are {n} at first. ", ". After that ", "."),
)
KINDS: tuple[Kind, ...] = ("+", "+", "+", "-", "-", "-", "×")  # as often as they are drawn


@dataclass(frozen=True)
class Change:
    """What becomes of the number: `Change("+", 6, groups=2)` is two bags of six more."""

    kind: Kind
    amount: int
    groups: int = 1

    @property
    def total(self) -> int:
        """All groups together."""
        return self.groups * self.amount

    def applied(self, number: int) -> int:
        """The number afterwards."""
        return {"+": number + self.total, "-": number - self.total, "×": number * self.total}[self.kind]


@dataclass(frozen=True)
class Sum:
    """What there is at first, and what becomes of it: `Sum(Change("+", 5), (Change("-", 2),))` is 5 - 2."""

    start: Change
    changes: tuple[Change, ...]

    @property
    def totals(self) -> list[int]:
        """The number at first and after each change."""
        numbers = [self.start.total]
        for change in self.changes:
            numbers.append(change.applied(numbers[-1]))
        return numbers

    @property
    def answer(self) -> int:
        """The number in the end."""
        return self.totals[-1]

    @property
    def steps(self) -> int:
        """Equations that it takes, one at a time."""
        return len(self.changes) + sum(part.groups > 1 for part in (self.start, *self.changes))

    @property
    def held_out(self) -> bool:
        """Whether it is only asked, never learnt from, in whatever words.

        By its `repr`, names of fields included. A test holds that the splits stay those of the bundled model.
        """
        return blake2b(repr(self).encode(), digest_size=4).digest()[0] % HELD_OUT == 0


def drawn(random: Random) -> Sum:
    """A sum of `STEPS` steps within 0 and `MOST`, each number of steps as likely."""
    steps = random.choice(STEPS)
    while True:
        start = _part("+", random) if random.random() < 0.25 else Change("+", random.randint(2, 12))  # noqa: PLR2004
        one = Sum(start, tuple(_change(random) for _ in range(steps - (start.groups > 1))))
        while one.steps > steps:
            one = Sum(one.start, one.changes[:-1])
        if one.steps == steps and one.changes and min(one.totals) >= 0 and max(one.totals) <= MOST:
            return one


def _change(random: Random) -> Change:
    kind = random.choice(KINDS)
    if kind == "×":
        return Change(kind, random.randint(2, 3))
    return _part(kind, random) if random.random() < 0.2 else Change(kind, random.randint(1, 9))  # noqa: PLR2004


def _part(kind: Kind, random: Random) -> Change:
    return Change(kind, random.randint(2, 6), random.randint(2, 4))


def story(one: Sum, random: Random) -> str:
    """The sum in words, in some problems with a sentence beside the point."""
    (name, she, her), (friend, *_) = random.sample(PEOPLE, 2)
    things, others = random.sample(THINGS, 2)
    words = {"name": name, "she": she, "She": she.capitalize(), "her": her, "friend": friend}
    words |= {"things": things, "others": others, "holders": random.choice(HOLDERS)}

    def told(form: str, part: Change) -> str:
        return form.format(n=part.amount, groups=part.groups, **words)

    sentences = [told(random.choice(GROUPED_OPENINGS if one.start.groups > 1 else OPENINGS), one.start)]
    for change in one.changes:
        forms = GROUPED_TOLD if change.groups > 1 else TOLD
        sentences.append(told(random.choice(forms[change.kind]), change))
    if random.random() < DISTRACTED:
        beside = random.choice(DISTRACTORS).format(n=random.randint(2, 12), **words)
        sentences.insert(random.randint(1, len(sentences)), beside)
    return " ".join([*sentences, random.choice(ASKED).format(**words)])


def equations(one: Sum, *, hasty: bool = False) -> list[str]:
    """How the answer comes about, without the start: one equation for each step.

    Args:
        one: the sum.
        hasty: additions and subtractions that follow each other stand in one equation, whose parts are not written.

    >>> equations(Sum(Change("+", 7), (Change("+", 6, groups=2), Change("-", 3))))
    ['2 × 6 = 12', '7 + 12 = 19', '19 - 3 = 16']
    >>> equations(Sum(Change("+", 7), (Change("+", 6, groups=2), Change("-", 3))), hasty=True)
    ['2 × 6 = 12', '7 + 12 - 3 = 16']
    """
    runs: list[list[Change]] = []  # of changes that stand in one equation
    for change in one.changes:
        if hasty and runs and "×" not in (change.kind, runs[-1][-1].kind):
            runs[-1].append(change)
        else:
            runs.append([change])
    written, number = _product(one.start), one.start.total
    for changes in runs:
        written += [product for change in changes for product in _product(change)]
        chain = "".join(f" {change.kind} {change.total}" for change in changes)
        before = number
        for change in changes:
            number = change.applied(number)
        written.append(f"{before}{chain} = {number}")
    return written


def _product(part: Change) -> list[str]:
    return [f"{part.groups} × {part.amount} = {part.total}"] if part.groups > 1 else []


def rationale(one: Sum, random: Random) -> str:
    """One of many ways to reason: in haste, all in one; or step by step, in this wording or that.

    Haste is the most frequent single way, so it is what a model that learnt from these says greedily; it is not the
    most reliable one. Sampled paths are mostly careful, each in its own words: the situation for which Wang et al. 2023
    (arXiv:2203.11171) made self-consistency.
    """
    if random.random() < HASTY:
        return ". ".join(equations(one, hasty=True)) + "."
    first, between, last = random.choice(CAREFUL)
    return first.format(n=_said(one.start)) + between.join(equations(one)) + last


def _said(part: Change) -> str:
    return f"{part.groups} × {part.amount}" if part.groups > 1 else f"{part.amount}"


def endless(random: Random, *, held_out: bool) -> Iterator[Example]:
    """Examples of one of the two splits, one after another."""
    side, number = "held-out" if held_out else "train", 0
    while True:
        if (one := drawn(random)).held_out == held_out:
            fields = {"question": story(one, random)}
            yield Example(f"sums/{side}/{number}", fields, str(one.answer), rationale(one, random))
            number += 1


def split(seed: int, size: int, *, held_out: bool) -> Sequence[Example]:
    """So many examples, no two of which ask the same."""
    return distinct(endless(Random(seed), held_out=held_out), size)
