import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rank_bm25 import BM25Okapi

from icl.selectors import BM25, bm25
from icl.selectors.bm25 import Okapi, words
from templates.errors import UserError
from tests.icl.selectors.pools import example, examples

GSM8K = Path(__file__).parents[4] / "shared" / "data" / "gsm8k"

tokens = st.lists(st.sampled_from("abcdefgh"), max_size=12)


def test_worked_by_hand() -> None:
    """Three documents, two tokens each but the last: every number of the formula by hand."""
    okapi = Okapi([["x", "x"], ["y", "z"], ["y", "w", "w", "w", "w"]])
    once = math.log(2.5) - math.log(1.5)  # x, z, w are in one document of three; y in two: negative
    mean = (3 * once + (math.log(1.5) - math.log(2.5))) / 4
    short, long = 1.5 * (0.25 + 0.75 * 2 / 3), 1.5 * (0.25 + 0.75 * 5 / 3)  # the mean length is 3
    x = once * 2 * 2.5 / (2 + short)
    y_short, y_long = 0.25 * mean * 2.5 / (1 + short), 0.25 * mean * 2.5 / (1 + long)
    np.testing.assert_allclose(okapi.scores([["x"], ["y"], ["x", "y", "y", "?"]]), [
        [x, 0, 0],
        [0, y_short, y_long],
        [x, 2 * y_short, 2 * y_long],
    ], rtol=1e-12)  # fmt: skip


@given(st.lists(tokens, min_size=1, max_size=8).filter(any), st.lists(st.lists(st.sampled_from("abcdxyz"), max_size=9)))
def test_equals_rank_bm25(documents: list[list[str]], queries: list[list[str]]) -> None:
    """Scores are those of `BM25Okapi.get_scores`, with repeated and unseen query tokens and empty texts."""
    reference = BM25Okapi(documents)
    expected = [reference.get_scores(query) for query in queries]
    scores = Okapi(documents).scores(queries)
    np.testing.assert_allclose(scores, np.reshape(expected, scores.shape), atol=1e-6)


@pytest.mark.data
@pytest.mark.skipif(not GSM8K.exists(), reason="no ../shared/data")
async def test_equals_rank_bm25_on_gsm8k() -> None:
    """Over 7,473 training questions the scores of test questions agree with rank-bm25 to 1e-6, and so do the best 8."""
    pool, queries = (
        [example(f"{part}/{i}", json.loads(line)["question"]) for i, line in enumerate(lines)]
        for part, lines in (
            ("train", (GSM8K / "train.jsonl").read_text().splitlines()),
            ("test", (GSM8K / "test.jsonl").read_text().splitlines()[:300:20]),
        )
    )
    reference = BM25Okapi([words(e.question) for e in pool])
    selector = BM25()
    await selector.fit(pool)
    for query, demos in zip(queries, await selector.select(queries, 8), strict=True):
        scores = reference.get_scores(words(query.question))
        best = np.argsort(-scores, kind="stable")[:8]
        assert [demo.example.id for demo in demos] == [f"train/{i}" for i in best]
        np.testing.assert_allclose([demo.score for demo in demos], scores[best], atol=1e-6)


async def test_a_tie_goes_to_the_earlier_example() -> None:
    """Of four examples with the same words, in any order of words, the first two come."""
    selector = BM25()
    await selector.fit(examples("red fox, old", "blue dog", "old red fox", "fox old red", "fox red old", *"abcdefg"))
    (demos,) = await selector.select([example("q", "an old red fox jumps")], 2)
    assert [demo.example.id for demo in demos] == ["pool/0", "pool/2"]
    assert demos[0].score == demos[1].score


async def test_queries_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are computed for a bounded number of cells at a time, and the result does not change."""
    pool, queries = examples("ab", "bc", "cd", "de", "ef"), examples("a b", "cd", "ef ab", "zz", "de", prefix="test")
    selector = BM25(tokens=list)
    await selector.fit(pool)
    whole = await selector.select(queries, 3)
    sizes: list[int] = []
    scores = Okapi.scores

    def counted(self: Okapi, queries: list[list[str]]) -> NDArray[np.float64]:
        sizes.append(len(queries))
        return scores(self, queries)

    monkeypatch.setattr(bm25, "_CELLS", 10)
    monkeypatch.setattr(Okapi, "scores", counted)
    assert await selector.select(queries, 3) == whole
    assert sizes == [2, 2, 1]


async def test_tokens_are_a_parameter() -> None:
    """Cut into letters, "ab" finds "ba"; cut into words it does not."""
    query = [example("q", "ab")]
    for selector, best in ((BM25(), 0.0), (BM25(tokens=list), math.log(3.5 / 1.5))):
        await selector.fit(examples("ba", "cd", "ef", "gh"))
        assert ((await selector.select(query, 1))[0][0].score > 0) == (best > 0)


async def test_a_pool_without_words() -> None:
    """Examples without a single word all score 0; rank-bm25 would divide by zero."""
    selector = BM25()
    await selector.fit(examples("?", "!", "..."))
    (demos,) = await selector.select([example("q", "a word")], 2)
    assert [(demo.example.id, demo.score) for demo in demos] == [("pool/0", 0.0), ("pool/1", 0.0)]


def test_bad_parameters() -> None:
    """Values that are no weights are refused by number."""
    with pytest.raises(UserError, match=r"got k1=1\.5, b=2"):
        BM25(b=2)
