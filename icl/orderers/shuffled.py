"""A random order: the baseline that shows how much order matters."""

from collections.abc import Sequence
from dataclasses import dataclass

from icl.example import Demo, Example
from icl.seeds import generator


@dataclass(frozen=True)
class Shuffled:
    """A random order for each query, from its own stream of random numbers: the same whatever else is in the run."""

    seed: int = 0

    async def order(self, demos: Sequence[Demo], query: Example) -> list[Demo]:
        """The demonstrations, shuffled."""
        return [demos[i] for i in generator(self.seed, "order", query.id).permutation(len(demos))]
