"""What a trained prompt says in words: the vocabulary's tokens that point in the direction of its vectors.

Dimensions: P soft tokens, H hidden, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from templates.errors import UserError
from templates.soft.frozen import Frozen
from templates.soft.prompt import SoftPrompt

Array = npt.NDArray[Any]

_PIECE = 2**14  # tokens whose embeddings are compared at once


@dataclass(frozen=True)
class Near:
    """A token near to a vector.

    Args:
        token: its text.
        id: its number.
        cosine: in [-1, 1].
    """

    token: str
    id: int
    cosine: float


def cosines(vectors: Array, table: Array) -> Array:
    """Cosines [P, V] of vectors [P, H] and a table's rows [V, H]; a row of zeros has cosine 0 with everything.

    >>> cosines(np.array([[2.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.0]]
    """
    lengths = np.linalg.norm(vectors, axis=1)[:, None] * np.linalg.norm(table, axis=1)  # [P, V]
    found: Array = np.divide(vectors @ table.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return found


def highest(scores: Array, k: int) -> npt.NDArray[np.intp]:
    """Columns of the k highest scores of each row, best first; a tie goes to the lower number."""
    best: npt.NDArray[np.intp] = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return best


def nearest_tokens(prompt: SoftPrompt, frozen: Frozen, k: int = 5) -> list[list[Near]]:
    """For each of the prompt's soft tokens the k tokens of the vocabulary that are nearest to it, nearest first.

    Trained vectors are often near to nothing (Lester et al. 2021, arXiv:2104.08691, section 7): look at the cosines.

    Args:
        prompt: of this model.
        frozen: the model.
        k: tokens of each.
    Raises:
        UserError: a prompt of another model, or k < 1.
    """
    if k < 1:
        raise UserError(f"as many nearest tokens as you want, at least 1, got {k}")
    prompt.base.check(frozen.base)
    known = min(len(frozen.embeddings), len(frozen.tokenizer))
    pieces = [frozen.embeddings[start : min(start + _PIECE, known)] for start in range(0, known, _PIECE)]
    scores = np.concatenate([cosines(prompt.vectors, piece.detach().float().cpu().numpy()) for piece in pieces], axis=1)
    return [
        [Near(frozen.tokenizer.decode([token]), int(token), float(scores[row, token])) for token in its]
        for row, its in enumerate(highest(scores, k))
    ]
