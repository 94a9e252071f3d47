import math
from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cot.votes import (
    Votes,
    certainty,
    maj_at,
    maj_curve,
    mean_and_error,
    normalised_sum,
    settled,
    unnormalised_sum,
    unweighted,
)
from templates.errors import UserError

ANSWERS = st.lists(st.sampled_from(["18", "20", "22", "24", None]), min_size=1, max_size=8)


def test_unread_paths_count_in_the_share() -> None:
    """Three of five paths say 18 and one says nothing: 18 wins with share 3/5, not 3/4."""
    votes = Votes.count(["18", "20", "18", None, "18"])
    assert (votes.winner, votes.share, votes.unread, votes.n) == ("18", 3 / 5, 1, 5)
    assert list(votes.tally.items()) == [("18", 3), ("20", 1)]
    assert str(votes) == "18: 3, 20: 1, unread: 1"


@pytest.mark.parametrize("answers", [[], [None, None]])
def test_no_answer_wins_when_nothing_was_read(answers: list[None]) -> None:
    """None is never a vote: no winner, share 0, an empty tally."""
    votes = Votes.count(answers)
    assert (votes.winner, votes.share, votes.tally, votes.unread) == (None, 0.0, {}, len(answers))


def test_a_tie_goes_to_the_first_seen() -> None:
    """20 and 18 have two votes each, and 20 came first."""
    assert Votes.count(["22", "20", "18", "18", "20"]).winner == "20"


def test_a_tie_goes_to_the_likelier_paths_before_the_first_seen() -> None:
    """20 sums to -7 and 18 to -5: 18 wins, although 20 came first and has the likeliest single path."""
    assert Votes.count(["20", "18", "18", "20"], logprobs=[-1.0, -2.0, -3.0, -6.0]).winner == "18"


def test_unknown_logprobs_break_no_tie() -> None:
    """One of the tied paths has no log-probability, so none are compared; that of an unread path is not needed."""
    assert Votes.count(["20", "18", None], logprobs=[-9.0, None, -1.0]).winner == "20"
    assert Votes.count(["20", "18", None], logprobs=[-9.0, -1.0, None]).winner == "18"


def test_logprobs_do_not_outweigh_votes() -> None:
    """Two unlikely paths beat one likely path."""
    assert Votes.count(["20", "18", "18"], logprobs=[-0.1, -50.0, -50.0]).winner == "18"


def test_weights_are_summed_for_each_answer() -> None:
    """0.5 against 0.25 + 0.125, and 0.125 unread: 20 wins with half of all weight."""
    votes = Votes.count(["20", "18", "18", None], weights=[0.5, 0.25, 0.125, 0.125])
    assert (votes.winner, votes.share, votes.tally) == ("20", 0.5, {"20": 0.5, "18": 0.375})


def test_paths_without_weight_have_no_share() -> None:
    """All weights 0 is a share of 0, not a division by zero."""
    assert Votes.count(["20"], weights=[0.0]).share == 0.0


@pytest.mark.parametrize(
    ("weights", "logprobs", "message"),
    [
        ([1.0], None, "2 answers but 1 weights"),
        (None, [-1.0, -2.0, -3.0], "2 answers but 3 logprobs"),
        ([1.0, -0.5], None, r"at least 0, got -0\.5"),
        ([1.0, math.inf], None, "finite and at least 0, got inf"),
        (None, [-1.0, math.nan], "log-probability is nan"),
    ],
)
def test_votes_refuse_what_cannot_be_counted(
    weights: list[float] | None, logprobs: list[float | None] | None, message: str
) -> None:
    """Each path has one weight, not negative, and one log-probability or None."""
    with pytest.raises(UserError, match=message):
        Votes.count(["18", "20"], weights, logprobs)


def test_the_weightings_of_the_paper() -> None:
    """Two paths of probability 1/4 and 1/8 with 2 and 3 tokens: both 1/2 per token, and 1 to 1/2 as a whole."""
    logprobs, tokens = [math.log(1 / 4), math.log(1 / 8)], [2, 3]
    assert unweighted(logprobs, tokens) == (1.0, 1.0)
    assert normalised_sum(logprobs, tokens) == pytest.approx((1 / 2, 1 / 2))
    assert unnormalised_sum(logprobs, tokens) == pytest.approx((1, 1 / 2))


def test_long_paths_keep_their_weight() -> None:
    """exp(-2000) is 0 in floating point; the share of the likelier of two such paths is still e/(e + 1)."""
    weights = unnormalised_sum([-2001.0, -2000.0], [8000, 8000])
    assert Votes.count(["20", "18"], weights).share == pytest.approx(math.e / (math.e + 1))


def test_weighing_needs_every_logprob() -> None:
    """A path without a log-probability cannot be weighed by it, and is not taken for likely or unlikely."""
    with pytest.raises(UserError, match="1 of 2 paths have no log-probability"):
        normalised_sum([-1.0, None], [1, 1])
    assert unweighted([-1.0, None], [1, 1]) == (1.0, 1.0)


def test_maj_at_by_hand() -> None:
    """The pairs of 18, 20, 20, None: 18 wins its three (it comes before each 20), and 20 wins the other three."""
    assert maj_at(["18", "20", "20", None], 2) == {"18": 3 / 6, "20": 3 / 6, None: 0.0}


def test_maj_at_keeps_subsets_without_a_vote_apart() -> None:
    """The pairs of 18, None, None: two hold 18, one holds nothing."""
    assert maj_at(["18", None, None], 2) == pytest.approx({"18": 2 / 3, None: 1 / 3})
    assert maj_at([None, None], 1) == {None: 1.0}


@given(ANSWERS)
def test_maj_at_is_the_average_over_all_subsets(answers: list[str | None]) -> None:
    """For every m, each answer's probability is the share of the m-subsets whose direct count it wins."""
    for m in range(1, len(answers) + 1):
        winners = Counter(Votes.count(subset).winner for subset in combinations(answers, m))
        expected = {answer: winners[answer] / math.comb(len(answers), m) for answer in dict.fromkeys(answers)}
        assert maj_at(answers, m) == pytest.approx(expected, abs=1e-12)
        assert set(winners) <= set(expected)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["18", "20", "22", "24", "26", None]), min_size=20, max_size=60))
def test_maj_at_in_larger_samples(answers: list[str | None]) -> None:
    """Probabilities sum to 1, one sample says the plain share, all samples say what `Votes` counts."""
    n = len(answers)
    assert all(math.isclose(sum(maj_at(answers, m).values()), 1, rel_tol=1e-12) for m in (1, 2, 3, n // 2, n - 1, n))
    assert maj_at(answers, 1) == pytest.approx({a: answers.count(a) / n for a in dict.fromkeys(answers)})
    assert maj_at(answers, n)[Votes.count(answers).winner] == pytest.approx(1)


@pytest.mark.parametrize("m", [0, -1, 4])
def test_maj_at_refuses_subsets_that_there_are_not(m: int) -> None:
    """Three samples have subsets of 1 to 3."""
    with pytest.raises(UserError, match=f"m={m} of 3 samples; m goes from 1 to 3"):
        maj_at(["18", "20", "18"], m)


def test_maj_at_refuses_more_samples_than_floats_can_count() -> None:
    """C(1030, 515) is beyond float64."""
    with pytest.raises(UserError, match="subsets of 1001 samples; the most is 1000"):
        maj_at(["18"] * 1001, 3)


def test_maj_at_is_unbiased() -> None:
    """Draws say 18 with 0.6, else 20: averaged over all draws of 4, maj@3 is P(Bin(3, 0.6) ≥ 2) = 0.648."""
    expected = 0.0
    for draw in product(["18", "20"], repeat=4):
        chance = math.prod(0.6 if answer == "18" else 0.4 for answer in draw)
        expected += chance * maj_at(draw, 3).get("18", 0.0)
    assert expected == pytest.approx(0.648)


def test_the_curve_by_hand() -> None:
    """18, 20, 18: alone 18 is right twice in three, of the pairs only (20, 18) goes wrong, all three say 18."""
    assert maj_curve(["18", "20", "18"], lambda answer: answer == "18").tolist() == pytest.approx([2 / 3, 2 / 3, 1])


@given(ANSWERS)
def test_the_curve_is_maj_at_for_every_m(answers: list[str | None]) -> None:
    """Several answers may be right (18 and 18.0 are the caller's business): their probabilities add up."""
    curve = maj_curve(answers, lambda answer: answer in {"18", "22"})
    at = [maj_at(answers, m) for m in range(1, len(answers) + 1)]
    assert curve.tolist() == pytest.approx([won.get("18", 0) + won.get("22", 0) for won in at], abs=1e-12)


def test_the_curve_of_nothing() -> None:
    """Unread paths are never right, and no samples have no curve."""
    assert maj_curve([None, None], lambda _: True).tolist() == [0.0, 0.0]
    assert maj_curve([], lambda _: True).shape == (0,)


@pytest.mark.parametrize("n", [40, 200, 400])
def test_the_curve_is_hypergeometric_for_two_answers(n: int) -> None:
    """With two answers and m odd there are no ties: P(more than m/2 of m are right), to eleven digits."""
    from scipy.stats import hypergeom

    right = n // 2 + 3
    answers = ["20"] * (n - right) + ["18"] * right
    m = np.arange(1, n + 1, 2)
    expected = hypergeom.sf(m // 2, n, right, m)
    assert maj_curve(answers, lambda answer: answer == "18")[::2] == pytest.approx(expected, rel=1e-11)


def test_the_error_of_a_curve_by_hand() -> None:
    """0, 1, 1, 0 over four questions: mean 1/2, s² = 4·(1/4)/3 = 1/3, error √(1/3)/√4; a constant has none."""
    mean, error = mean_and_error([[0, 1], [1, 1], [1, 1], [0, 1]])
    assert mean.tolist() == [0.5, 1.0]
    assert error.tolist() == pytest.approx([math.sqrt(1 / 12), 0.0])


def test_one_question_has_no_error() -> None:
    """The spread over questions cannot be seen in one: nan, without a warning."""
    mean, error = mean_and_error([[0.5, 1.0]])
    assert mean.tolist() == [0.5, 1.0]
    assert np.isnan(error).all()


@pytest.mark.parametrize("shape", [(3,), (0, 4)])
def test_a_mean_curve_needs_rows(shape: tuple[int, ...]) -> None:
    """One curve alone, or none at all, is refused by its shape."""
    with pytest.raises(UserError, match=r"\[Q, n\] with Q at least 1"):
        mean_and_error(np.zeros(shape))


def test_certainty_by_hand() -> None:
    """(3, 1): at least 2 heads in 5 tosses, 26/32; (4, 0): at least 1 in 5, 31/32; nothing yet: 1/2."""
    assert certainty(["18", "20", "18", None, "18"]) == 26 / 32
    assert certainty(["18"] * 4) == 31 / 32
    assert certainty([None]) == 1 / 2


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_certainty_is_the_beta_distribution(x: int, y: int, unread: int) -> None:
    """P(p > 1/2) under Beta(a + 1, b + 1), as scipy has it; a third answer and unread paths play no part."""
    from scipy.stats import beta

    a, b = max(x, y), min(x, y)
    answers = ["18"] * x + ["20"] * y + ["22"] * min(b, 1) + [None] * unread
    assert certainty(answers) == pytest.approx(beta.sf(0.5, a + 1, b + 1), rel=1e-12)


def test_settled_at_four_of_four_and_not_before() -> None:
    """15/16 is below 0.95, 31/32 is above; a dissenting fifth vote reopens the question."""
    assert not settled(["18"] * 3)
    assert settled(["18"] * 4)
    assert not settled(["18"] * 4 + ["20"])
    assert not settled([])
    assert settled(["18"] * 3, threshold=15 / 16)


@pytest.mark.parametrize("threshold", [0.5, 1.01])
def test_settled_refuses_thresholds_that_decide_nothing(threshold: float) -> None:
    """Two answers level are at 1/2, and nothing is above 1."""
    with pytest.raises(UserError, match=f"above 1/2, got {threshold}"):
        settled(["18"], threshold)
