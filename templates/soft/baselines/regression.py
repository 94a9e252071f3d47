"""Logistic regression on hidden states.

Dimensions: N examples, H hidden, C labels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from templates.soft.rows import Row, cut

if TYPE_CHECKING:
    from templates.soft.frozen import Frozen

Array = npt.NDArray[np.float64]


def states(frozen: "Frozen", rows: Sequence[Row], batch: int) -> Array:
    """What the output layer is given where each row's answer begins, [N, H]; of the answer nothing is run."""
    asked = [Row(row.tokens[: _first(row)], row.soft[: _first(row)], 1) for row in rows]
    order = sorted(range(len(asked)), key=lambda place: len(asked[place].tokens))
    found = np.empty((len(asked), frozen.base.hidden))
    with frozen.held(), torch.no_grad():
        for some in cut(order, batch):
            hidden = frozen.hidden(frozen.batch([asked[place] for place in some]), None)
            found[list(some)] = hidden.double().cpu().numpy()
    return found


def regression(seen: Array, known: npt.NDArray[np.int64], labels: int, strength: float) -> tuple[Array, Array]:
    """Multinomial logistic regression: the one minimum of Σ -log p(label) + strength/2 · |weights|².

    States are brought to mean 0 and deviation 1 while they are fitted, so that a strength means the same everywhere.

    Args:
        seen: [N, H].
        known: [N], the labels' numbers.
        labels: C.
        strength: of the penalty on the weights; the bias is free.
    Returns:
        Weights [C, H] and bias [C], for states as they are.
    """
    from scipy.optimize import minimize

    mean, spread = seen.mean(0), seen.std(0)
    spread[spread == 0] = 1.0
    inputs, target = (seen - mean) / spread, np.eye(labels)[known]  # [N, H], [N, C]

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(labels, -1)  # [C, H + 1], the bias last
        scores = inputs @ weights[:, :-1].T + weights[:, -1]
        scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
        off = np.exp(scores) - target  # [N, C]
        slope = np.c_[off.T @ inputs + strength * weights[:, :-1], off.sum(0)]
        return float(-(scores * target).sum() + strength / 2 * (weights[:, :-1] ** 2).sum()), slope.ravel()

    start = np.zeros(labels * (inputs.shape[1] + 1))
    solved = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "gtol": 1e-6})
    weights = solved.x.reshape(labels, -1)
    scaled = weights[:, :-1] / spread
    return scaled, weights[:, -1] - scaled @ mean


def _first(row: Row) -> int:
    """Tokens up to the answer's first one."""
    return len(row.tokens) - row.answer + 1
