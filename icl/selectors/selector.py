"""What a selector is."""

from collections.abc import Sequence
from typing import Protocol

from icl.example import Demo, Example


class Selector(Protocol):
    """A way to choose demonstrations from a pool."""

    async def fit(self, pool: Sequence[Example]) -> None:
        """Index or train on the pool, once; a second call replaces the first."""
        ...

    async def select(self, queries: Sequence[Example], k: int) -> list[list[Demo]]:
        """Choose k demonstrations for each query, most useful first; what one gets does not depend on the others.

        Raises:
            NotEnoughDemos: the pool without the query's own example holds fewer than k.
            NotFitted: `fit` was not called.
        """
        ...
