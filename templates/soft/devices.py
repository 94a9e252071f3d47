"""Several devices: processes that train together, each on its share of every batch, as `accelerate launch` starts them.

All of them hold the model, the rows and the prompt. Only gradients are exchanged: of a prompt a few thousand numbers.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from templates.errors import Unsupported
from templates.soft.rows import Row

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Devices:
    """The processes that train together.

    Args:
        count: how many.
        rank: which one this is; the first one writes.
        own: where this one computes, None where nobody says.
    """

    count: int = 1
    rank: int = 0
    own: Any = None

    @property
    def first(self) -> bool:
        """Whether this process writes and shows what all of them found."""
        return self.rank == 0

    def share(self, rows: Sequence[Row]) -> Sequence[Row]:
        """This process's rows of a batch: as many as others have, and as long."""
        return sorted(rows, key=lambda row: len(row.tokens))[self.rank :: self.count]

    def summed(self, tensors: "Iterable[Tensor]") -> None:
        """Put the sum over all processes in each tensor's place."""
        if self.count > 1:
            import torch.distributed

            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def as_the_first(self, numbers: list[float], device: Any) -> list[float]:
        """The first process's numbers, for all of them."""
        if self.count == 1:
            return numbers
        import torch.distributed

        said = torch.tensor(numbers, dtype=torch.float64, device=device)
        torch.distributed.broadcast(said, src=0)
        found: list[float] = said.tolist()
        return found


def devices() -> Devices:
    """Those that this process was started with.

    Raises:
        Unsupported: several, and accelerate is not installed, or they do not find each other.
    """
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted == 1:
        return Devices()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise Unsupported(f"several processes need accelerate ({error}); pip install accelerate") from error
    import torch

    state = PartialState(cpu=not torch.cuda.is_available())
    if state.num_processes != wanted:
        raise Unsupported(f"{wanted} processes were started, and {state.num_processes} know of each other")
    return Devices(state.num_processes, state.process_index, state.device)
