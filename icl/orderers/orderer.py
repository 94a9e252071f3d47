"""What an orderer is."""

from collections.abc import Sequence
from typing import Protocol

from icl.example import Demo, Example


class Orderer(Protocol):
    """A way to order demonstrations: some in, the same out."""

    async def order(self, demos: Sequence[Demo], query: Example) -> list[Demo]:
        """The demonstrations, most useful last: next to the query."""
        ...
