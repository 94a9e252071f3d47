"""Logistic regression on hidden states.

Dimensions: N examples, H hidden, C labels.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def regression(
    seen: Array, known: npt.NDArray[np.int64], labels: int, strength: float, *, standardized: bool = True
) -> tuple[Array, Array]:
    """Multinomial logistic regression: the one minimum of Σ -log p(label) + strength/2 · |weights|².

    Args:
        seen: [N, H].
        known: [N], the labels' numbers.
        labels: C.
        strength: of the penalty on the weights; the bias is free.
        standardized: states are brought to mean 0 and deviation 1 while they are fitted, so that a strength means the
            same everywhere.
    Returns:
        Weights [C, H] and bias [C], for states as they are.
    """
    from scipy.optimize import minimize

    mean, spread = (seen.mean(0), seen.std(0)) if standardized else (np.zeros(seen.shape[1]), np.ones(seen.shape[1]))
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
    solved = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "gtol": 1e-6, "ftol": 0.0})
    weights = solved.x.reshape(labels, -1)
    scaled = weights[:, :-1] / spread
    return scaled, weights[:, -1] - scaled @ mean
