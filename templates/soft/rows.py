"""Examples as a model is trained on them: prompt and answer in token ids, in batches of like length.

Dimensions: B rows, S tokens that they share, T tokens behind these, A answer tokens of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from random import Random
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from templates.errors import DataError
from templates.prompt import Soft
from templates.template import Template
from templates.tokens import split

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_POOL = 64  # batches within which rows are sorted by length
_RUN = 512  # tokens that cost as much as a run of the model costs whatever its tokens
_AHEAD = 256  # the same of a run of one row ahead of a batch; on two cores, models of 0.9 and 6 million weights


class Labelled(Protocol):
    """What can be trained on: `icl.Example` is one."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def answer(self) -> str | None: ...  # noqa: D102
    @property
    def fields(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def shown(self) -> Mapping[str, str]: ...  # noqa: D102


def named(example: Labelled) -> str:
    """How an example is called in messages: by its id, and by file and line where it is from one."""
    place = getattr(example, "place", "")
    return f"example {example.id!r} ({place})" if place else f"example {example.id!r}"


@dataclass(frozen=True)
class Row:
    """A prompt and one answer.

    Args:
        tokens: of both.
        soft: for each token the number of the soft token in its place, -1 where there is none.
        answer: how many of the tokens are the answer's.
    """

    tokens: tuple[int, ...]
    soft: tuple[int, ...]
    answer: int

    @property
    def begun(self) -> "Row":
        """The same with the first token of its answer alone."""
        end = len(self.tokens) - self.answer + 1
        return Row(self.tokens[:end], self.soft[:end], 1)

    def moved(self, by: int) -> "Row":
        """The same with the soft tokens that are so many further on: those of another prompt of several."""
        return Row(self.tokens, tuple(number + by if number >= 0 else number for number in self.soft), self.answer)


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows as tensors; what fills up the shorter ones stands on the right.

    Tokens with which all rows begin, the trained prompt's mostly, may stand before them once for all.
    """

    ids: "Tensor"  # [B, T]
    soft: "Tensor | None"  # [B, T], None where none of these is a soft token
    places: "Tensor"  # [A], where answer tokens are predicted, counted through all rows
    targets: "Tensor"  # [A], the answers' tokens
    answers: list[int]  # tokens of each row's answer
    seen: "Tensor | None" = None  # [B, T], 1 for tokens and 0 for filling; None where no token looks ahead
    lead: "Batch | None" = None  # the one row [1, S] that stands before each of them

    @property
    def prefixed(self) -> bool:
        """Whether a prompt, if there is one, stands before everything as keys and values: no row has a soft token."""
        return self.soft is None and (self.lead is None or self.lead.soft is None)


def row_of(tokenizer: Any, template: Template, example: Labelled, answer: str, room: int, *, end: bool) -> Row:
    """The example's row for a causal language model: prompt, then answer.

    Args:
        tokenizer: the model's.
        template: with the soft prompt that is trained, or none.
        example: what is asked.
        answer: of the task, a label where the template has a verbalizer.
        room: tokens that the model has room for.
        end: whether the end of the text belongs to the answer: so the model learns to stop.

    Raises:
        DataError: prompt and answer have no room.
    """
    template.check(example.fields, example.id)
    context, said = split(tokenizer, template.render(example.fields), template.continuation(example.shown, answer))
    if end and tokenizer.eos_token_id is not None:
        said = [*said, tokenizer.eos_token_id]
    tokens = (*context.ids, *said)
    if len(tokens) > room:
        raise DataError(
            f"{named(example)} has {len(context.ids)} tokens of prompt and {len(said)} of answer, and there is "
            f"room for {room}; leave it out, shorten it, or take fewer soft tokens"
        )
    return Row(tokens, soft_numbers(len(tokens), context.soft, len(template.soft or ())), len(said))


class Rowing(Protocol):
    """What makes a row of an example, as a model of its kind sees it: `Frozen` does."""

    def row(self, template: Template, example: Labelled, answer: str, room: int, *, end: bool) -> Row:
        """See `row_of`."""
        ...


def rows_of(
    model: Rowing, template: Template, examples: Sequence[Labelled], room: int, *, end: bool = False
) -> list[Row]:
    """A row for each example, with its own answer, to its end where answers are free.

    Args:
        model: makes the rows.
        template: that words them.
        examples: with answers.
        room: tokens that the model has room for.
        end: whether labels have their end too.

    Raises:
        DataError: an example without an answer, or with a label that the template's verbalizer does not have; names it.
    """
    rows = []
    for example in examples:
        if example.answer is None or not example.answer.strip():
            raise DataError(f"{named(example)} has no answer, so nothing can be learnt from it; leave it out")
        labels = template.verbalizer.labels if template.verbalizer else None
        if labels and example.answer not in labels:
            raise DataError(
                f"{named(example)} has the label {example.answer!r}, and the verbalizer has {list(labels)}; "
                "give it words for that label, or leave the example out"
            )
        rows.append(model.row(template, example, example.answer, room, end=end or labels is None))
    return rows


def as_batch(rows: Sequence[Row], device: Any = "cpu", *, shared: int = 0) -> Batch:
    """The rows as one batch. Their last tokens are predicted, not run.

    Args:
        rows: any.
        device: where the tensors are to be.
        shared: S, so many first tokens to be run once; `beginning` says how many there are.
    """
    import torch

    def columns(some: Sequence[Row], part: slice, places: Sequence[int] = (), targets: Sequence[int] = ()) -> Batch:
        soft = [row.soft[:-1][part] for row in some]
        return Batch(
            ids=padded([row.tokens[:-1][part] for row in some], 0, device),
            soft=padded(soft, -1, device) if any(number >= 0 for its in soft for number in its) else None,
            places=torch.tensor(places, dtype=torch.long, device=device),
            targets=torch.tensor(targets, dtype=torch.long, device=device),
            answers=[row.answer for row in some],
        )

    width = max(len(row.tokens) for row in rows) - 1 - shared  # T
    places = [
        number * width + at - shared
        for number, row in enumerate(rows)
        for at in range(len(row.tokens) - row.answer - 1, len(row.tokens) - 1)
    ]
    batch = columns(rows, slice(shared, None), places, [token for row in rows for token in row.tokens[-row.answer :]])
    return replace(batch, lead=columns(rows[:1], slice(shared))) if shared else batch


def beginning(rows: Sequence[Row]) -> int:
    """How many first tokens to run once for all rows: those that they share, where that is less work than B times.

    No answer's token is predicted in their place.

    >>> def rows(size):
    ...     return [Row((7,) * size + (number, 0), (-1,) * (size + 2), 1) for number in range(11)]
    >>> beginning(rows(30)), beginning(rows(20))
    (30, 0)
    """
    before = [tuple(zip(row.tokens, row.soft, strict=True))[: -row.answer - 1] for row in rows]
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*before, strict=False)))
    return shared if (len(rows) - 1) * shared > _AHEAD else 0


def padded(values: Sequence[Sequence[int]], filler: int, device: Any, width: int = 0) -> "Tensor":
    """The values as one tensor, shorter ones filled up on the right; as wide as the longest, or so wide."""
    import torch

    width = width or max(map(len, values))
    return torch.tensor([[*its, *[filler] * (width - len(its))] for its in values], device=device)


def soft_numbers(size: int, soft: Sequence[tuple[int, Soft]], tokens: int) -> tuple[int, ...]:
    """For each token of a row the number of the soft token in its place, -1 where there is none; see `Row`.

    Args:
        size: tokens of the row.
        soft: the prompt's parts with the places of their first tokens, in order; all of them in each demonstration and
            in the query.
        tokens: of the whole prompt.
    """
    found, seen = [-1] * size, 0
    for place, part in soft:
        found[place : place + len(part.vectors)] = range(seen, seen + len(part.vectors))
        seen = (seen + len(part.vectors)) % tokens
    return tuple(found)


def epoch(rows: Sequence[Row], size: int, seed: str) -> list[list[Row]]:
    """All rows once, in batches of like length; which ones meet, and in which order, comes from the seed alone."""
    random = Random(seed)
    mixed = random.sample(list(rows), len(rows))
    pools = [sorted(pool, key=lambda row: len(row.tokens)) for pool in cut(mixed, size * _POOL)]
    batches = [list(batch) for pool in pools for batch in cut(pool, size)]
    random.shuffle(batches)
    return batches


def groups(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """The rows of a batch in groups of like length, so that their padding and their runs together cost the least.

    Batches of `epoch` mostly are one group; batches that mix lengths would be half padding.

    >>> def row(size):
    ...     return Row((0,) * size, (-1,) * size, 1)
    >>> [[len(one.tokens) for one in its] for its in groups([row(100), row(1200), row(110), row(1000)])]
    [[100, 110], [1000, 1200]]
    """
    ordered = sorted(rows, key=lambda row: len(row.tokens))
    best: list[tuple[int, int]] = [(0, 0)]  # of the first n rows: what they cost, and where their last group begins
    for stop, row in enumerate(ordered, start=1):
        costs = [(best[start][0] + (stop - start) * len(row.tokens) + _RUN, start) for start in range(stop)]
        best.append(min(costs))
    found: list[Sequence[Row]] = []
    stop = len(ordered)
    while stop:
        start = best[stop][1]
        found.insert(0, ordered[start:stop])
        stop = start
    return found


def cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items, so many at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]
