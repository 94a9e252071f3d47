"""Demonstrations nearest to the query in the space of a sentence encoder (KATE)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from icl.example import Demo, Example
from icl.lm import Embedder
from icl.selectors.leaks import Pool, fitted
from icl.selectors.nearest import Index, Kind, check

_SAMPLE = 256  # queries on which an approximate index is measured


@dataclass
class KNN:
    """The k examples whose questions are nearest to the query's by cosine; a tie goes to the earlier example.

    Only questions are embedded, never answers: a query has none.

    Source: Liu et al. 2021, arXiv:2101.06804.

    Args:
        embed: texts -> vectors; by default `SentenceEncoder()`.
        index: "flat" is exact and right below some 100,000 examples. "hnsw" and "ivf" are approximate: the first
            `select` measures their recall on its own queries and warns where it is below 0.95.
        effort: how far an approximate index looks.
    """

    embed: Embedder | None = None
    index: Kind = "flat"
    effort: int = 128
    _fitted: tuple[Pool, Embedder, Index] | None = field(default=None, init=False, repr=False, compare=False)
    _measured: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check(self.index, self.effort)

    async def fit(self, pool: Sequence[Example]) -> None:
        """Embed the pool's questions and index them."""
        examples, embed = Pool(pool), self.embed or default_embedder()
        rows = await embed(examples.questions)  # [N, D]
        self._fitted = examples, embed, await asyncio.to_thread(Index, rows, self.index, self.effort)
        self._measured = False

    async def select(self, queries: Sequence[Example], k: int) -> list[list[Demo]]:
        """The k nearest for each query: one batch to the encoder, one search."""
        pool, embed, index = fitted(self._fitted, self)
        barred = pool.barred(queries, k)
        if not k or not queries:
            return [[] for _ in queries]
        vectors = await embed([query.question for query in queries])  # [Q, D]
        if not self._measured:
            self._measured = True
            await asyncio.to_thread(index.recall, vectors[:_SAMPLE], k)
        rows, scores = await asyncio.to_thread(index.nearest, vectors, k, barred)  # [Q, k]
        return [pool.demos(*pair) for pair in zip(rows, scores, strict=True)]

    async def recall(self, queries: Sequence[Example], k: int) -> float:
        """The share of the k exactly nearest examples that the index finds for these queries; warns below 0.95."""
        _, embed, index = fitted(self._fitted, self)
        return await asyncio.to_thread(index.recall, await embed([query.question for query in queries]), k)


def default_embedder() -> Embedder:
    """The sentence encoder that selectors use where none is given."""
    from icl.embedders import SentenceEncoder

    return SentenceEncoder()
