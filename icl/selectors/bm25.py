"""Demonstrations that share rare words with the query: Okapi BM25."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl.example import Demo, Example
from icl.selectors.leaks import Pool, Rows, fitted
from icl.vectors import top_k
from templates.errors import UserError

Tokens = Callable[[str], list[str]]

_WORD = re.compile(r"\w+")
_CELLS = 2**21  # of [Q, N] scores at a time: 16 MiB, whatever the size of pool and queries


def words(text: str) -> list[str]:
    """The text's lower-cased runs of word characters.

    >>> words("Tom's 2 dogs")
    ['tom', 's', '2', 'dogs']
    """
    return _WORD.findall(text.lower())


class Okapi:
    """BM25 scores of queries against N documents, many queries at once.

    score(q, d) = Σ idf(t) · f(t, d)·(k1 + 1) / (f(t, d) + k1·(1 - b + b·|d|/mean |d|))

    over the tokens t of q, repeats included. f(t, d) is the count of t in d, and idf(t) = ln((N - n + ½)/(n + ½)) for a
    token in n documents; where that is negative it is ¼ of the mean idf. A token that is in no document adds nothing.

    `rank_bm25.BM25Okapi` counts, and defines the numbers; unlike its `get_scores`, which loops over the documents for
    each token of each query, this is one sparse product.
    """

    def __init__(self, documents: Sequence[list[str]], k1: float = 1.5, b: float = 0.75) -> None:
        from rank_bm25 import BM25Okapi
        from scipy.sparse import csr_array

        self.n = len(documents)
        self._columns: dict[str, int] = {}
        if not any(documents):  # rank_bm25 divides by the number of tokens
            return
        okapi = BM25Okapi(documents, k1=k1, b=b)
        self._columns = {token: column for column, token in enumerate(okapi.idf)}
        counts, lengths = okapi.doc_freqs, np.asarray(okapi.doc_len)
        starts = _starts(counts)
        columns = np.fromiter((self._columns[t] for t in chain.from_iterable(counts)), np.int32, starts[-1])
        f = np.fromiter(chain.from_iterable(count.values() for count in counts), np.float64, starts[-1])
        norm = np.repeat(k1 * (1 - b + b * lengths / okapi.avgdl), np.diff(starts))
        idf = np.fromiter(okapi.idf.values(), np.float64, len(self._columns))
        weights = idf[columns] * f * (k1 + 1) / (f + norm)
        shape = (self.n, len(self._columns))
        self._weights = csr_array((weights, columns, starts), shape=shape).T.tocsr()  # [V, N]

    def scores(self, queries: Sequence[list[str]]) -> NDArray[np.float64]:
        """The scores [Q, N] of tokenised queries."""
        from scipy.sparse import csr_array

        if not self._columns:
            return np.zeros((len(queries), self.n))
        known = [[self._columns[token] for token in query if token in self._columns] for query in queries]
        starts = _starts(known)
        columns = np.fromiter(chain.from_iterable(known), np.int32, starts[-1])
        counts = csr_array((np.ones(len(columns)), columns, starts), shape=(len(queries), len(self._columns)))
        counts.sum_duplicates()  # also sorts: equal documents get equal sums, to the last bit
        scores: NDArray[np.float64] = (counts @ self._weights).toarray()
        return scores


def _starts(rows: Sequence[Any]) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, rows)])


@dataclass
class BM25:
    """The k examples with the highest BM25 score for the query's question; a tie goes to the earlier example.

    Source: Robertson & Zaragoza 2009, https://doi.org/10.1561/1500000019; the numbers are those of rank-bm25.

    Args:
        k1: how much a repeated word counts, k1 ≥ 0.
        b: how much long questions are held back, 0 ≤ b ≤ 1.
        tokens: cuts a question into words.
    """

    k1: float = 1.5
    b: float = 0.75
    tokens: Tokens = words
    _fitted: tuple[Pool, Okapi] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.k1 < 0 or not 0 <= self.b <= 1:
            raise UserError(f"BM25 needs k1 ≥ 0 and 0 ≤ b ≤ 1, got k1={self.k1}, b={self.b}")

    async def fit(self, pool: Sequence[Example]) -> None:
        """Count the words of the pool's questions."""
        self._fitted = await asyncio.to_thread(self._count, Pool(pool))

    async def select(self, queries: Sequence[Example], k: int) -> list[list[Demo]]:
        """The k best for each query."""
        pool, okapi = fitted(self._fitted, self)
        barred = pool.barred(queries, k)
        if not k:
            return [[] for _ in queries]
        questions = [query.question for query in queries]
        return await asyncio.to_thread(lambda: [pool.demos(*pair) for pair in self._best(okapi, questions, k, barred)])

    def _count(self, pool: Pool) -> tuple[Pool, Okapi]:
        return pool, Okapi([self.tokens(question) for question in pool.questions], self.k1, self.b)

    def _best(
        self, okapi: Okapi, questions: list[str], k: int, barred: list[Rows]
    ) -> Iterator[tuple[Rows, NDArray[np.float64]]]:
        """Rows [k] and scores [k] for one question after another."""
        chunk = max(1, _CELLS // okapi.n)
        for start in range(0, len(questions), chunk):
            scores = okapi.scores([self.tokens(question) for question in questions[start : start + chunk]])  # [Q, N]
            for line, own in zip(scores, barred[start:], strict=False):
                line[own] = -np.inf
            yield from ((rows, line[rows]) for rows, line in zip(top_k(scores, k), scores, strict=True))
