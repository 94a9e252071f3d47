"""Most similar nearest the query."""

from collections.abc import Sequence
from dataclasses import dataclass

from icl.example import Demo, Example


@dataclass(frozen=True)
class BySimilarity:
    """By the selector's scores, the highest last; equal scores stay in the selector's order.

    So demonstrations without scores of their own (`Fixed`) are shown as they were given.
    """

    async def order(self, demos: Sequence[Demo], query: Example) -> list[Demo]:  # noqa: ARG002
        """The demonstrations, lowest score first."""
        return sorted(demos, key=lambda demo: demo.score)
