import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from templates import Template, Verbalizer
from templates.answers import text
from templates.errors import TemplateError, UnknownName

SENTIMENT = Verbalizer({"pos": ["great", "good"], "neg": ["terrible"]})


def test_words_and_labels() -> None:
    """The first word is shown; any of the words is read."""
    assert SENTIMENT.word("pos") == "great"
    assert SENTIMENT.read("It was good.") == "pos"
    assert SENTIMENT.read("no idea") is None
    assert SENTIMENT.labels == ("pos", "neg")


@given(st.lists(st.from_regex(r"[a-z]{2,8}", fullmatch=True), min_size=1, max_size=5, unique=True))
def test_reading_is_the_inverse_of_wording(words: list[str]) -> None:
    """The word shown for a label reads back as that label."""
    verbalizer = Verbalizer({f"label {word}": [word] for word in words})
    assert [verbalizer.read(verbalizer.word(label)) for label in verbalizer.labels] == list(verbalizer.labels)


def test_scores_by_sum_and_by_mean() -> None:
    """P(pos) = P(great) + P(good) = 0.2 + 0.1; "terrible" has two tokens: 0.5 · 0.5 by sum, 0.5 by mean."""
    logprobs = {"great": [np.log(0.2)], "good": [np.log(0.1)], "terrible": [np.log(0.5), np.log(0.5)]}
    np.testing.assert_allclose(np.exp(SENTIMENT.scores(logprobs)), [0.3, 0.25])
    by_mean = Verbalizer(SENTIMENT.words, tokens="mean")
    np.testing.assert_allclose(np.exp(by_mean.scores(logprobs)), [0.3, 0.5])


def test_bad_words_are_refused() -> None:
    """No words, an empty word, or one word for two labels: each is named."""
    with pytest.raises(TemplateError, match="'Good' stands for both 'pos' and 'neg'"):
        Verbalizer({"pos": ["good"], "neg": ["Good"]})
    with pytest.raises(TemplateError, match="label 'pos' needs at least one word"):
        Verbalizer({"pos": []})
    with pytest.raises(TemplateError, match="at least one label"):
        Verbalizer({})
    with pytest.raises(UnknownName, match=r"no label 'neutral'; this verbalizer has \['pos', 'neg'\]"):
        SENTIMENT.word("neutral")


def test_a_template_reads_with_its_verbalizer() -> None:
    """Where no reader is given, words come back as labels; a reader that is given goes before."""
    verbalizer = Verbalizer({"pos": ["great"], "neg": ["bad"]})
    assert Template("R: {r}\nS: {answer}", verbalizer=verbalizer).reader(" great!") == "pos"
    assert Template("R: {r}\nS: {answer}", verbalizer=verbalizer, reader=text).reader(" great!") == "great!"
    assert Template("R: {r}\nS: {answer}").reader(" great!") == "great!"
