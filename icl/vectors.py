"""Arithmetic on rows of vectors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def unit_rows(rows: Array) -> Array:
    """The rows [N, D] scaled to length one; a row of zeros stays zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Array = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return units


def cosine(a: Array, b: Array) -> Array:
    """Cosines [Q, N] between the rows of a [Q, D] and of b [N, D]."""
    return unit_rows(a) @ unit_rows(b).T


def top_k(scores: NDArray[np.floating[Any]], k: int) -> NDArray[np.intp]:
    """Column numbers [Q, k] of the k highest scores in each row of [Q, N], best first; a tie goes to the lower number.

    All N columns where k is larger.
    """
    k = min(k, scores.shape[1])
    if k == 0:
        return np.empty((len(scores), 0), dtype=np.intp)
    # Everything as good as the k-th best takes part in the sort, so that ties are settled by number, not by partition.
    bar = np.partition(scores, -k, axis=1)[:, -k]
    best = np.empty((len(scores), k), dtype=np.intp)
    for row, (line, least) in enumerate(zip(scores, bar, strict=True)):
        close = np.flatnonzero(line >= least)
        best[row] = close[np.argsort(-line[close], kind="stable")[:k]]
    return best
