import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from icl.selectors import KNN, nearest
from icl.selectors.nearest import Index
from icl.vectors import Array, cosine, top_k, unit_rows
from templates.errors import UserError
from tests.icl.selectors.pools import Plane, example, examples


def cloud(n: int, dim: int, seed: int = 0) -> Array:
    """Random vectors."""
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


async def test_worked_by_hand() -> None:
    """Angles 0, 60 and 90 from 30 degrees: cosines √3/2 twice, then 1/2; the tie goes to the earlier example."""
    selector = KNN(Plane())
    await selector.fit(examples("90", "0", "60"))
    (demos,) = await selector.select([example("q", "30")], 3)
    assert [demo.example.id for demo in demos] == ["pool/1", "pool/2", "pool/0"]
    assert [demo.score for demo in demos] == pytest.approx([3**0.5 / 2, 3**0.5 / 2, 0.5])


async def test_only_questions_are_embedded() -> None:
    """The encoder sees each question of the pool and of the queries, in two batches, and no answer."""
    embed = Plane()
    selector = KNN(embed)
    await selector.fit(examples("0 a", "1 b"))
    await selector.select(examples("2 c", "3 d", prefix="test"), 1)
    assert embed.asked == ["0 a", "1 b", "2 c", "3 d"]


@given(
    arrays(np.int8, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(-2, 2)),
    arrays(np.int8, (4, 3), elements=st.integers(-2, 2)),
    st.integers(0, 5),
)
def test_exact_search_equals_sorting_everything(pool: Array, queries: Array, k: int) -> None:
    """On coarse grids, full of equal vectors, the rows are those of a stable sort of all cosines."""
    pool, queries = pool.astype(np.float32), queries.astype(np.float32)
    k = min(k, len(pool))
    rows, scores = Index(pool).nearest(queries, k)
    cosines = np.einsum("qd,nd->qn", unit_rows(queries), unit_rows(pool))
    np.testing.assert_allclose(scores, -np.sort(-cosines, axis=1)[:, :k], atol=1e-6)
    for row, line in zip(rows, np.round(cosines, 5), strict=True):
        assert len({*row.tolist()}) == k
        assert np.all(np.diff(line[row]) <= 0)


def test_equal_rows_come_in_order() -> None:
    """400 rows, each of 20 vectors 20 times: the first copies come, in order, wherever FAISS stops reading."""
    rows = np.tile(cloud(20, 64), (20, 1))
    found, scores = Index(rows).nearest(rows[:20], 12)
    assert found.tolist() == [list(range(i, 240, 20)) for i in range(20)]
    assert np.all(scores == scores[:, :1])  # to the last bit


def test_equals_brute_force_at_size() -> None:
    """Over 3,000 rows, where FAISS does the search, rows and cosines are those of the full matrix."""
    rows, queries = cloud(3000, 48), cloud(100, 48, seed=1)
    found, scores = Index(rows).nearest(queries, 10)
    full = cosine(queries, rows)
    assert (found == top_k(full, 10)).mean() > 0.999  # neighbours within 1e-7 of each other may change places
    np.testing.assert_allclose(scores, np.take_along_axis(full, found, 1), atol=1e-6)


def test_barred_rows_make_room() -> None:
    """With the 500 nearest rows barred, the next ones come."""
    rows, queries = cloud(2000, 16), cloud(3, 16, seed=1)
    order = top_k(cosine(queries, rows), 510)
    found, _ = Index(rows).nearest(queries, 10, [np.sort(line[:500]) for line in order])
    assert found.tolist() == order[:, 500:].tolist()


@pytest.mark.parametrize("cells", [1, 1000])
def test_memory_is_bounded_without_changing_results(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into the smallest parts, a search finds the same."""
    rows, queries = cloud(500, 8), cloud(20, 8, seed=1)
    whole = Index(rows).nearest(queries, 5)
    monkeypatch.setattr(nearest, "_CELLS", cells)
    parts = Index(rows).nearest(queries, 5)
    assert (parts[0] == whole[0]).all()
    assert (parts[1] == whole[1]).all()


def clustered(n: int, seed: int = 0) -> Array:
    """Vectors around 50 centres: neighbours are easy to find."""
    random = np.random.default_rng(seed)
    return (cloud(50, 32)[random.integers(50, size=n)] + 0.2 * random.normal(size=(n, 32))).astype(np.float32)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_indexes_find_neighbours_that_are_there(kind: nearest.Kind) -> None:
    """On vectors with structure, recall is above 0.95 and no warning is given; scores are exact cosines."""
    rows, queries = clustered(5000), clustered(100, seed=1)
    index = Index(rows, kind)
    assert index.recall(queries, 8) > 0.95
    found, scores = index.nearest(queries, 8)
    np.testing.assert_allclose(scores, np.take_along_axis(cosine(queries, rows), found, 1), atol=1e-6)


def test_low_recall_is_said() -> None:
    """On vectors without structure one cell of an ivf index holds few of the neighbours: the user is told."""
    index = Index(cloud(5000, 64), "ivf", effort=1)
    with pytest.warns(UserWarning, match=r"finds \d+% of the 8 nearest of 5000 rows \(50 queries\); below 95%"):
        assert index.recall(cloud(50, 64, seed=1), 8) < 0.5


def test_an_index_that_runs_dry_is_helped_out() -> None:
    """One visited cell holds fewer rows than asked for; the exact search gives the rest."""
    rows = clustered(1000)
    found, scores = Index(rows, "ivf", effort=1).nearest(rows[:3], 900)
    assert [len({*line}) for line in found.tolist()] == [900] * 3
    assert np.isfinite(scores).all()


async def test_recall_is_measured_at_the_first_select() -> None:
    """An approximate selector warns once by itself, on the queries it is asked about; `recall` gives the number."""

    async def embed(texts: list[str]) -> Array:
        return np.stack([cloud(1, 64, seed=int(text))[0] for text in texts])

    selector = KNN(embed, index="ivf", effort=1)  # type: ignore[arg-type]
    await selector.fit(examples(*map(str, range(2000))))
    queries = examples(*map(str, range(5000, 5050)), prefix="test")
    with pytest.warns(UserWarning, match="raise effort, or take index='flat'"):
        first = await selector.select(queries, 4)
    assert await selector.select(queries, 4) == first
    with pytest.warns(UserWarning, match="finds"):
        assert await selector.recall(queries, 4) < 0.95


def test_flat_has_full_recall() -> None:
    """An exact index needs no measuring."""
    assert Index(cloud(10, 4)).recall(cloud(2, 4), 3) == 1.0


def test_bad_parameters() -> None:
    """An index that there is not is refused by name."""
    with pytest.raises(UserError, match=r"'flat', 'hnsw', 'ivf'.*got 'pq' with effort=128"):
        KNN(Plane(), index="pq")  # type: ignore[arg-type]
