"""Demonstrations drawn at random: the first baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from icl.example import Demo, Example
from icl.seeds import generator
from icl.selectors.leaks import Pool, Rows, fitted


def draw(random: np.random.Generator, n: int, k: int, barred: Rows) -> Rows:
    """Rows drawn one after another from those of n that are not barred, without replacement.

    The draw for a smaller k is the beginning of that for a larger one, so that runs with different k compare in pairs.

    Args:
        random: the source of the draw.
        n: how many rows there are.
        k: how many rows, 0 ≤ k ≤ n - len(barred).
        barred: rows that are never drawn.
    Returns:
        [k] distinct rows, each sequence of k equally likely.
    """
    seen = set(barred.tolist())
    picked: list[int] = []
    while len(picked) < k:
        row = int(random.integers(n))  # a row seen before is drawn again: one draw is enough for small k
        if row not in seen:
            seen.add(row)
            picked.append(row)
    return np.array(picked, dtype=np.intp)


@dataclass
class Random:
    """k examples of the pool, drawn for each query from its own stream of random numbers.

    The same query gets the same demonstrations whatever else is in the run, and in whatever order.
    """

    seed: int = 0
    _pool: Pool | None = field(default=None, init=False, repr=False, compare=False)

    async def fit(self, pool: Sequence[Example]) -> None:
        """Remember the pool."""
        self._pool = Pool(pool)

    async def select(self, queries: Sequence[Example], k: int) -> list[list[Demo]]:
        """Choose k random demonstrations for each query; none is better than another."""
        pool = fitted(self._pool, self)
        barred = pool.barred(queries, k)
        return [
            pool.demos(draw(generator(self.seed, "demonstrations", query.id), len(pool), k, own))
            for query, own in zip(queries, barred, strict=True)
        ]
