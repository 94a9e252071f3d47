"""The selector's own order, forwards and backwards: baselines."""

from collections.abc import Sequence
from dataclasses import dataclass

from icl.example import Demo, Example


@dataclass(frozen=True)
class AsGiven:
    """As the selector gave them. Unlike in `BySimilarity`, the most useful one is then farthest from the query."""

    async def order(self, demos: Sequence[Demo], query: Example) -> list[Demo]:  # noqa: ARG002
        """The demonstrations, unchanged."""
        return list(demos)


@dataclass(frozen=True)
class Reversed:
    """The selector's order backwards, whatever the scores say."""

    async def order(self, demos: Sequence[Demo], query: Example) -> list[Demo]:  # noqa: ARG002
        """The demonstrations, last one first."""
        return list(reversed(demos))
