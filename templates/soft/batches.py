"""What a model computes of rows, however many: in batches of like length.

Dimensions: N rows, H hidden.
"""

from collections.abc import Callable, Sequence
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


def states(frozen: "Frozen", rows: Sequence[Row], prompt: "Tensor | None", size: int) -> "Tensor":
    """What the output layer is given where each row's answer begins, [N, H] float32; of the answer nothing is run."""
    import torch

    with frozen.held(), torch.no_grad():
        asked = [row.begun for row in rows]
        found = in_batches(frozen, asked, size, lambda some: list(frozen.hidden(some, prompt).float().cpu()))
    return torch.stack(found) if found else torch.empty(0, frozen.base.hidden)
