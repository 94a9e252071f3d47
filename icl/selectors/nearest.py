"""The nearest of N vectors: exact, or through an approximate index whose recall is measured."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np

from icl.selectors.leaks import Rows
from icl.vectors import Array, unit_rows
from templates.errors import UserError

Kind = Literal["flat", "hnsw", "ivf"]

GOOD = 0.95  # recall below this changes results: the user is told

_MARGIN = 8  # rows fetched beyond k: room for the query itself and for ties
_NOISE = 1e-5  # cosines that FAISS finds closer than this are not yet told apart
_CELLS = 2**24  # of an array at a time: 64 MiB


class Index:
    """N unit vectors, and the nearest of them to any others by cosine.

    Args:
        rows: [N, D]; scaled to length one here.
        kind: "flat" looks at every row. "hnsw" (a graph of neighbours) and "ivf" (cells around 4·√N centres) look at
            some; they pay above some 100,000 rows, and only on vectors that have structure: measure `recall`.
        effort: how far an approximate index looks (efSearch; cells visited of ivf); more is slower and finds more.
    """

    def __init__(self, rows: Array, kind: Kind = "flat", effort: int = 128) -> None:
        check(kind, effort)
        self.rows = unit_rows(np.ascontiguousarray(rows, dtype=np.float32))
        self._approximate = None if kind == "flat" or not len(rows) else _build(self.rows, kind, effort)

    def nearest(self, queries: Array, k: int, barred: Sequence[Rows] | None = None) -> tuple[Rows, Array]:
        """The k nearest rows to each query, best first; a tie goes to the lower row.

        FAISS proposes candidates; their cosines are then computed pair by pair, so that equal rows have equal scores
        wherever they stand. Where the last place is too close to call, or a barred row took it, more are fetched.

        Args:
            queries: [Q, D].
            k: how many rows.
            barred: Q arrays of rows that a query must not get; at least k others are left for each.
        Returns:
            Row numbers [Q, k] and cosines [Q, k].
        """
        queries = unit_rows(np.ascontiguousarray(queries, dtype=np.float32))
        found, scores = np.empty((len(queries), k), np.intp), np.empty((len(queries), k), np.float32)
        todo, fetch = np.arange(len(queries) if k else 0), k + _MARGIN
        while len(todo):
            fetch = min(fetch, len(self.rows))
            unsure = []
            for part in _parts(todo, fetch):
                rows, last = self._candidates(queries[part], fetch)  # [Q, C], [Q]
                exact = self._cosines(queries[part], rows)  # [Q, C]
                exact[rows < 0] = -np.inf
                for line, row, i in zip(exact, rows, part, strict=True):
                    if barred is not None and len(barred[i]):
                        line[np.isin(row, barred[i])] = -np.inf
                best = np.lexsort((rows, -exact))[:, :k]
                found[part], scores[part] = np.take_along_axis(rows, best, 1), np.take_along_axis(exact, best, 1)
                unsure.append(part[(scores[part, -1] <= last + _NOISE) & (fetch < len(self.rows))])
            todo, fetch = np.concatenate(unsure), 4 * fetch
        return found, scores

    def recall(self, queries: Array, k: int) -> float:
        """The share of the k exactly nearest rows that the index finds, averaged over the queries [Q, D]; 1 for "flat".

        Warns below 0.95.
        """
        if self._approximate is None or not k or not len(queries):
            return 1.0
        queries = unit_rows(np.ascontiguousarray(queries, dtype=np.float32))
        k = min(k, len(self.rows))
        found, exact = self._propose(queries, k)[1], self._scan(queries, k)[1]
        share = float(np.mean([np.isin(e, f).mean() for e, f in zip(exact, found, strict=True)]))
        if share < GOOD:
            warnings.warn(
                f"the approximate index finds {share:.0%} of the {k} nearest of {len(self.rows)} rows ({len(queries)} "
                f"queries); below {GOOD:.0%} results change: raise effort, or take index='flat'",
                stacklevel=2,
            )
        return share

    def _candidates(self, queries: Array, fetch: int) -> tuple[Rows, Array]:
        """Rows [Q, C], and below which cosine [Q] every row that is not among them lies."""
        if fetch == len(self.rows):  # all of them: nothing to search
            return np.tile(np.arange(fetch), (len(queries), 1)), np.full(len(queries), -np.inf, np.float32)
        scores, rows = self._propose(queries, fetch)
        return rows, np.where(rows[:, -1] < 0, np.inf, scores[:, -1])  # where it ran dry: fetch more

    def _propose(self, queries: Array, k: int) -> tuple[Array, Rows]:
        if self._approximate is None:
            return self._scan(queries, k)
        scores, rows = self._approximate.search(queries, k)
        return scores, rows

    def _scan(self, queries: Array, k: int) -> tuple[Array, Rows]:
        import faiss

        scores, rows = faiss.knn(queries, self.rows, k, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, rows

    def _cosines(self, queries: Array, rows: Rows) -> Array:
        """Cosines [Q, C] of each query [D] with its own rows [C]."""
        cosines = np.empty(rows.shape, np.float32)
        for part in _parts(np.arange(len(rows)), rows.shape[1] * queries.shape[1]):
            cosines[part] = np.einsum("qd,qcd->qc", queries[part], self.rows[rows[part]])
        return cosines


def _parts(items: Rows, cells: int) -> Iterator[Rows]:
    """The items in order, as many at a time as keep the memory of so many cells for each bounded."""
    step = max(1, _CELLS // max(1, cells))
    yield from (items[start : start + step] for start in range(0, len(items), step))


def check(kind: Kind, effort: int) -> None:
    """Refuse an index that there is not."""
    if kind not in get_args(Kind) or effort < 1:
        raise UserError(f"an index is one of {get_args(Kind)} with effort ≥ 1, got {kind!r} with effort={effort}")


def _build(rows: Array, kind: Kind, effort: int) -> Any:
    import faiss

    n, dim = rows.shape
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = 200, effort
        graph.add(rows)
        return graph
    centres = max(1, min(int(4 * np.sqrt(n)), n // 39))  # k-means wants 39 rows for each centre
    cells = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, centres, faiss.METRIC_INNER_PRODUCT)
    cells.nprobe = effort
    cells.train(rows)
    cells.add(rows)
    return cells
