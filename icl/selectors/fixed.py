"""The same demonstrations for every query: the second baseline, and the cheapest one (all prompts share a prefix)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from icl.example import Demo, Example
from icl.selectors.leaks import Pool, fitted
from templates.errors import UnknownName, UserError


@dataclass
class Fixed:
    """The first k of the given examples; a query that is one of them gets the next one instead.

    Args:
        demos: the examples, or ids of examples in the pool; None: the pool itself. Examples need no pool.
    """

    demos: Sequence[Example | str] | None = None
    _pool: Pool | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.demos, str):
            raise UserError(
                f"demos is a sequence of examples or ids, got the one string {self.demos!r}; write [{self.demos!r}]"
            )
        given = [demo for demo in self.demos or () if isinstance(demo, Example)]
        if self.demos is not None and len(given) == len(self.demos):
            self._pool = Pool(given)

    async def fit(self, pool: Sequence[Example]) -> None:
        """Look the ids up in the pool."""
        by_id = {example.id: example for example in pool}
        given = pool if self.demos is None else [_found(demo, by_id) for demo in self.demos]
        self._pool = Pool(given)

    async def select(self, queries: Sequence[Example], k: int) -> list[list[Demo]]:
        """The first k for each query, in the order given."""
        pool = fitted(self._pool, self)
        firsts = np.arange(len(pool))
        return [pool.demos(np.setdiff1d(firsts[: k + len(own)], own)[:k]) for own in pool.barred(queries, k)]


def _found(demo: Example | str, by_id: dict[str, Example]) -> Example:
    if isinstance(demo, Example):
        return demo
    if demo not in by_id:
        near = get_close_matches(demo, by_id, n=3) or list(by_id)[:3]
        raise UnknownName(f"no example {demo!r} among the {len(by_id)} of the pool; the nearest ids are {near}")
    return by_id[demo]
