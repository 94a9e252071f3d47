import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from icl.vectors import Array, cosine, top_k, unit_rows

grids = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-3, 3))


def test_cosine_by_hand() -> None:
    """(3, 4) and (4, 3) meet at 24/25; a zero vector has cosine 0 with everything."""
    rows = np.array([[3, 4], [0, 0]], np.float32)
    np.testing.assert_allclose(unit_rows(rows), np.array([[0.6, 0.8], [0, 0]], np.float32))
    expected = np.array([[0.96, -0.96], [0, 0]], np.float32)
    np.testing.assert_allclose(cosine(rows, np.array([[4, 3], [-4, -3]], np.float32)), expected, atol=1e-7)


def test_top_k_by_hand() -> None:
    """Of 1 3 3 2 3 the best four are columns 1, 2, 4 and then 3."""
    assert top_k(np.array([[1, 3, 3, 2, 3]], np.float32), 4).tolist() == [[1, 2, 4, 3]]


@given(grids, st.integers(0, 14))
def test_top_k_equals_a_stable_sort(scores: Array, k: int) -> None:
    """Ties go to the lower column, for every k; a k beyond the columns gives them all."""
    assert (top_k(scores, k) == np.argsort(-scores, axis=1, kind="stable")[:, :k]).all()


def test_top_k_with_hidden_columns() -> None:
    """A column at minus infinity comes last, after any number."""
    assert top_k(np.array([[-np.inf, -5.0, 0.0]]), 3).tolist() == [[2, 1, 0]]
