import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.stats import Interval, bootstrap, mcnemar, paired, sign_flip, wilson
from templates.errors import UserError

# Darwin's maize, crossed minus self-fertilised, in eighths of an inch; Fisher, The Design of Experiments, section 17.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, Table I, method 3, printed to four digits."""
    interval = wilson(successes, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_wilson_at_the_ends() -> None:
    """Nothing observed says nothing; no success and only successes touch 0 and 1 exactly, and mirror each other."""
    assert wilson(0, 0) == Interval(0.0, 1.0)
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == 1.0
    assert wilson(10, 10).low == pytest.approx(1 - wilson(0, 10).high)


@given(st.integers(1, 2000), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(n: int, data: st.DataObject, confidence: float) -> None:
    """The same as `binomtest(...).proportion_ci(method="wilson")`."""
    from scipy.stats import binomtest

    successes = data.draw(st.integers(0, n))
    theirs = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    ours = wilson(successes, n, confidence)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    """There are from 0 to n successes."""
    with pytest.raises(UserError, match=f"from 0 to n, got {successes} of {n}"):
        wilson(successes, n)


def test_intervals_refuse_a_confidence_in_per_cent() -> None:
    """95 is not 0.95."""
    with pytest.raises(UserError, match=r"as 0\.95 does, got 95"):
        wilson(1, 2, confidence=95)
    with pytest.raises(UserError, match=r"as 0\.95 does, got 95"):
        bootstrap([1, 2], confidence=95)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_bootstrap_is_scipys(statistic: object) -> None:
    """The same generator gives the same resamples, so the percentile interval is scipy's."""
    from scipy import stats

    assert callable(statistic)
    scores = np.random.default_rng(1).normal(size=37)
    theirs = stats.bootstrap(
        (scores,), statistic, n_resamples=999, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    ours = bootstrap(scores, statistic, seed=7, resamples=999)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_bootstrap_by_hand() -> None:
    """Of 0 and 1 the mean is 0, 1/2, 1 with chances 1/4, 1/2, 1/4: its middle 0.6 is all, its middle 0.4 is 1/2."""
    assert bootstrap([0, 1], confidence=0.6) == Interval(0.0, 1.0)
    assert bootstrap([0, 1], confidence=0.4) == Interval(0.5, 0.5)


def test_bootstrap_in_blocks_is_bootstrap_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many resamples are drawn at a time changes nothing."""
    scores = [0.1, 0.4, 0.4, 0.9, 0.3]
    at_once = bootstrap(scores, resamples=1000)
    monkeypatch.setattr("eval.stats.BLOCK", 35)
    assert bootstrap(scores, resamples=1000) == at_once


def test_bootstrap_depends_on_its_seed_alone() -> None:
    """The same seed gives the same interval; another seed another one; equal scores a point."""
    scores = np.random.default_rng(0).normal(size=50)
    assert bootstrap(scores, seed=3) == bootstrap(scores, seed=3)
    assert bootstrap(scores, seed=3) != bootstrap(scores, seed=4)
    assert bootstrap([0.5, 0.5, 0.5]) == Interval(0.5, 0.5)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, math.nan]])
def test_bootstrap_refuses_what_are_not_scores(values: list[float]) -> None:
    """None at all, a table, and nan are refused."""
    with pytest.raises(UserError, match="one finite number for each of at least 1 question"):
        bootstrap(values)


def test_resampling_refuses_no_resamples() -> None:
    """An interval from nothing is refused."""
    with pytest.raises(UserError, match="at least 1 resample, got 0"):
        bootstrap([1.0, 2.0], resamples=0)


def test_mcnemar_as_published() -> None:
    """Armitage & Berry 1994, p. 127: of 50 sputum specimens 12 grew on medium A only, 2 on B only; two-sided 0.0129."""
    assert mcnemar(12, 2) == 2 * (1 + 14 + 91) / 2**14
    assert round(mcnemar(12, 2), 4) == 0.0129


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_scipys_binomial_test(wins: int, losses: int) -> None:
    """The sign test of wins among wins and losses; with neither, nothing speaks against equality."""
    from scipy.stats import binomtest

    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_sign_flip_as_published() -> None:
    """Fisher 1935, section 21: 863 of the 32768 sign patterns reach Darwin's sum of 314, so two-sided 1726."""
    assert sum(DARWIN) == 314
    assert sign_flip(DARWIN, resamples=2**15) == 1726 / 32768


def test_sign_flip_sampled_is_near_the_exact_value() -> None:
    """10,000 random patterns, of the 32,768: 1726/32768 = 0.0527 within three standard errors of 0.0022."""
    sampled = sign_flip(DARWIN, seed=0)
    assert sampled == pytest.approx(1726 / 32768, abs=3 * 0.0022)
    assert sampled == sign_flip(DARWIN, seed=0)
    assert sampled != sign_flip(DARWIN, seed=1)


def test_sign_flip_is_never_zero() -> None:
    """40 gains in a row have chance 2/2^40; what 99 random patterns can say is 1/100."""
    assert sign_flip([1.0] * 40, resamples=99) == 1 / 100


@given(st.lists(st.sampled_from([-0.3, -0.1, 0.0, 0.1, 0.2, 0.7]), min_size=2, max_size=8))
@settings(deadline=None, max_examples=50)
def test_sign_flip_is_scipys_permutation_test(gaps: list[float]) -> None:
    """All patterns, against `permutation_test` with samples exchanged within pairs, on the size of the mean gap."""
    from scipy.stats import permutation_test

    zeros = np.zeros(len(gaps))
    theirs = permutation_test(
        (np.array(gaps), zeros),
        lambda x, y, axis: np.abs(np.round(np.sum(x - y, axis=axis), 9)),
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
    )
    assert sign_flip(gaps) == pytest.approx(theirs.pvalue)


@given(st.integers(0, 7), st.integers(0, 6), st.integers(0, 3))
def test_mcnemar_is_the_sign_flip_test_of_right_and_wrong(wins: int, losses: int, ties: int) -> None:
    """On differences of 1, -1 and 0 the two exact tests agree."""
    gaps = [1.0] * wins + [-1.0] * losses + [0.0] * (ties + 1)
    assert sign_flip(gaps, resamples=2**13) == pytest.approx(mcnemar(wins, losses))


def test_paired_on_right_and_wrong() -> None:
    """The sputum table as questions: 20 both, 12 only a, 2 only b, 16 neither; the difference is 10/50."""
    a, b = [1] * 20 + [1] * 12 + [0] * 2 + [0] * 16, [1] * 20 + [0] * 12 + [1] * 2 + [0] * 16
    result = paired(a, b)
    assert (result.wins, result.losses, result.ties) == (12, 2, 36)
    assert result.difference == pytest.approx(0.2)
    assert result.p_value == mcnemar(12, 2)
    assert result.interval == bootstrap(np.subtract(a, b))
    assert result.interval.low > 0


def test_paired_on_general_scores() -> None:
    """Darwin's plants against none: the p-value is Fisher's, the difference 314/15 eighths of an inch."""
    result = paired(DARWIN, [0] * 15, resamples=2**15)
    assert (result.p_value, result.wins, result.losses, result.ties) == (1726 / 32768, 13, 2, 0)
    assert result.difference == pytest.approx(314 / 15)


def test_paired_swapped_is_mirrored() -> None:
    """The pair the other way round: the negative difference, wins and losses exchanged, the same p-value."""
    a, b = [0.5, 0.75, 0.25, 1.0], [0.25, 0.75, 0.5, 0.0]
    there, back = paired(a, b), paired(b, a)
    assert (back.difference, back.wins, back.losses) == (-there.difference, there.losses, there.wins)
    assert back.p_value == there.p_value


def test_a_system_does_not_differ_from_itself() -> None:
    """All ties: difference 0, p-value 1, an interval of one point."""
    result = paired([1, 0, 1], [1, 0, 1])
    assert (result.difference, result.p_value, result.interval, result.ties) == (0.0, 1.0, Interval(0.0, 0.0), 3)


def test_paired_refuses_different_questions() -> None:
    """Two scores against three are not pairs."""
    with pytest.raises(UserError, match="the same questions, got 2 scores against 3"):
        paired([1, 0], [1, 0, 1])
