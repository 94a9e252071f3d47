"""What a model computes of rows, however many: in batches of like length.

Dimensions: N rows, H hidden, A answer tokens.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from templates.soft.rows import Batch, Row, cut

if TYPE_CHECKING:
    from torch import Tensor

    from templates.soft.frozen import Frozen

Found = TypeVar("Found")


def in_batches(
    frozen: "Frozen", rows: Sequence[Row], size: int, compute: Callable[[Batch], Sequence[Found]]
) -> list[Found]:
    """What is computed of each row, in the order of the rows; rows of like length run together."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].tokens))
    found: dict[int, Found] = {}
    for some in cut(order, size):
        found.update(zip(some, compute(frozen.batch([rows[place] for place in some])), strict=True))
    return [found[place] for place in range(len(rows))]


def word_logprobs(
    frozen: "Frozen", worded: Sequence[Sequence[Row]], prompt: "Tensor | None", size: int
) -> list[list[list[float]]]:
    """For each question and each of the words that may answer it, the log-probabilities of the word's tokens.

    Words of one token are all read in the place of one: such a question runs once, however many they are.

    Args:
        frozen: the model; within `held`, and no gradients.
        worded: for each question a row for each of its words.
        prompt: see `Frozen.hidden`.
        size: rows that run at once.
    """
    alike: dict[tuple[int, ...], list[int]] = {}  # words of one token each, and the questions that have them
    rest = []
    for place, rows in enumerate(worded):
        if len({row.tokens[: -row.answer] for row in rows}) == 1 and {row.answer for row in rows} == {1}:
            alike.setdefault(tuple(row.tokens[-1] for row in rows), []).append(place)
        else:
            rest.append(place)
    found: dict[int, list[list[float]]] = {}
    for tokens, places in alike.items():
        read = partial(_chances, frozen, prompt, tokens)
        found.update(zip(places, in_batches(frozen, [worded[place][0] for place in places], size, read), strict=True))
    whole = [row for place in rest for row in worded[place]]
    said = iter(
        in_batches(frozen, whole, size, lambda some: [its[0].tolist() for its in frozen.logprobs(some, prompt)])
    )
    found.update({place: [next(said) for _ in worded[place]] for place in rest})
    return [found[place] for place in range(len(worded))]


def _chances(frozen: "Frozen", prompt: "Tensor | None", tokens: Sequence[int], batch: Batch) -> list[list[list[float]]]:
    """Log-probabilities of these tokens in the one place of each row where an answer is to be said, each in a list."""
    chances = frozen.logits(frozen.hidden(batch, prompt)).log_softmax(-1)[:, tokens]
    read: list[list[list[float]]] = chances[..., None].tolist()
    return read


def states(frozen: "Frozen", rows: Sequence[Row], prompt: "Tensor | None", size: int) -> "Tensor":
    """What the output layer is given where each row's answer begins, [N, H] float32; of the answer nothing is run."""
    import torch

    with frozen.held(), torch.no_grad():
        asked = [row.begun for row in rows]
        found = in_batches(frozen, asked, size, lambda some: list(frozen.hidden(some, prompt).float().cpu()))
    return torch.stack(found) if found else torch.empty(0, frozen.base.hidden)
