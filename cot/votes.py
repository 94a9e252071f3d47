"""What to make of votes: how to weigh them, who would have won with fewer of them, and when they are settled.

Unlike `Votes`, which is one count of n samples: `maj_at` and `maj_curve` average the counts of m of the same n samples
over all subsets, and `settled` asks whether more samples could plausibly change the winner.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from icl.votes import Votes
from templates.errors import UserError

__all__ = [
    "Votes",
    "certainty",
    "maj_at",
    "maj_curve",
    "mean_and_error",
    "normalised_sum",
    "settled",
    "unnormalised_sum",
    "unweighted",
]

Array = npt.NDArray[np.float64]

MOST = 1000  # C(n, n/2) leaves the range of float64 at n = 1030


def unweighted(logprobs: Sequence[float | None], tokens: Sequence[int]) -> tuple[float, ...]:  # noqa: ARG001
    """1 for every path: the plain majority vote, and the paper's choice.

    Source: Wang et al. 2023, arXiv:2203.11171, Table 1; the next two are its "weighted sum" rows.
    """
    return (1.0,) * len(logprobs)


def normalised_sum(logprobs: Sequence[float | None], tokens: Sequence[int]) -> tuple[float, ...]:
    """The geometric mean of its tokens' probabilities, for every path: exp(logprob / tokens)."""
    return tuple(math.exp(lp / max(k, 1)) for lp, k in zip(_known(logprobs), tokens, strict=True))


def unnormalised_sum(logprobs: Sequence[float | None], tokens: Sequence[int]) -> tuple[float, ...]:  # noqa: ARG001
    """The probability of every path, in units of the likeliest one's: exp(logprob - max logprob).

    Winner and share do not depend on the unit. Without it a path of some thousand tokens would weigh exp(-800) = 0.
    """
    known = _known(logprobs)
    return tuple(math.exp(lp - max(known)) for lp in known)


def _known(logprobs: Sequence[float | None]) -> list[float]:
    known = [lp for lp in logprobs if lp is not None]
    if len(known) < len(logprobs):
        missing = len(logprobs) - len(known)
        raise UserError(f"{missing} of {len(logprobs)} paths have no log-probability; vote unweighted or ask for them")
    return known


def maj_at(answers: Sequence[str | None], m: int) -> dict[str | None, float]:
    """Each answer's probability of winning the majority vote of m of the n samples.

    The m samples are a uniformly random subset; the vote is unweighted, and a tie goes to the answer that comes first
    in sample order within the subset. Exact, by counting subsets: so an unbiased estimate, for every m ≤ n, of what m
    fresh samples would say, and at m = n the direct count.

    Args:
        answers: n canonical answers in sample order; None is no vote.
        m: how many samples vote, 1 ≤ m ≤ n.
    Returns:
        Every answer's probability, in first-seen order; then under None, if any sample is unread, the probability
        that the subset has no vote at all. They sum to 1.

    >>> maj_at(["18", "20", "18"], 2)  # 18 against 20 goes to the earlier, in two of three pairs that is 18
    {'18': 0.6666666666666666, '20': 0.3333333333333333}
    """
    n = len(answers)
    if not 1 <= m <= n:
        raise UserError(f"asked for the majority of m={m} of {n} samples; m goes from 1 to {n}")
    names, wins = _wins(answers)
    subsets = _pascal(n)[n, m]
    won: dict[str | None, float] = {name: float(wins[i, m] / subsets) for i, name in enumerate(names)}
    if unread := answers.count(None):
        won[None] = float(_pascal(n)[unread, m] / subsets)
    return won


def maj_curve(answers: Sequence[str | None], right: Callable[[str], bool]) -> Array:
    """The probability that the majority of m of the n samples is right, for every m at once.

    Args:
        answers: n canonical answers in sample order; None is no vote and never right.
        right: whether a canonical answer is right.
    Returns:
        [n], the entry for m at m - 1: the first is the share of right samples, the last is 0 or 1.
    """
    names, wins = _wins(answers)
    is_right = np.array([right(name) for name in names], dtype=bool)  # [A]
    return np.asarray((wins[is_right].sum(axis=0) / _pascal(len(answers))[-1])[1:])


def _wins(answers: Sequence[str | None]) -> tuple[list[str], Array]:
    """How many subsets each answer wins, by their size.

    Fix the winner a, the place p of its first chosen sample, and its number t of chosen samples. Then the generating
    function of the subset, with one x for each sample in it, is the product of

        C(a after p, t - 1) x^t                              a itself
        Σ_{j<t} C(c_b, j) x^j  +  C(b after p, t) x^t         another answer b: fewer, or as many but all after p
        (1 + x)^c                                            c samples that are unread or of answers with c_b < t

    and the number sought is the coefficient of x^m, summed over p and t. All terms are positive: nothing cancels.

    Args:
        answers: n samples.
    Returns:
        The A distinct answers in first-seen order, and [A, n + 1] how many subsets of each size 0 … n they win.
    """
    n = len(answers)
    if n > MOST:
        raise UserError(f"cannot count the subsets of {n} samples; the most is {MOST}")
    names = list(dict.fromkeys(answer for answer in answers if answer is not None))
    wins = np.zeros((len(names), n + 1))
    if not names:
        return names, wins
    choose, lag = _pascal(n), _lag(n)
    number = {name: i for i, name in enumerate(names)}
    code = np.array([-1 if answer is None else number[answer] for answer in answers])
    own = code[:, None] == np.arange(len(names))  # [n, A]
    counts = own.sum(axis=0)  # [A]
    after = counts - own.cumsum(axis=0)  # [n, A], how often each answer is still to come

    second = np.sort(counts)[-2] if len(names) > 1 else 0
    for t in range(1, second + 1):
        rivals = np.flatnonzero(counts >= t)  # [R]
        places = np.nonzero(own[:, rivals] & (after[:, rivals] >= t - 1))[0]  # [p], the first of t can be here
        mine, later = own[np.ix_(places, rivals)], after[np.ix_(places, rivals)]
        exactly = np.where(mine, choose[later, t - 1], choose[later, t])  # [p, R], ways to choose t of that answer
        others = 1.0 - mine  # [p, R]
        free = n - counts[rivals].sum()
        ways = np.tile(choose[free, : free + 1], (len(places), 1))  # [p, degree + 1]
        for r, c in enumerate(counts[rivals]):
            width = ways.shape[1]
            fewer = np.zeros(2 * n + 1)
            fewer[:t] = choose[c, :t]  # Σ_{j<t} C(c, j) x^j
            longer = np.zeros((len(places), width + t))
            longer[:, :-1] = ways if t == 1 else ways @ fewer[lag[:width, : width + t - 1]]
            longer *= others[:, r, None]
            longer[:, t:] += exactly[:, r, None] * ways
            ways = longer
        wins[rivals, : ways.shape[1]] += mine.T.astype(np.float64) @ ways

    first = counts.argmax()  # with more than `second` chosen samples, the rest does not matter
    c = counts[first]
    many = np.where(np.arange(c + 1) > second, choose[c, : c + 1], 0.0)
    wins[first] += np.convolve(many, choose[n - c, : n - c + 1])
    return names, wins


@lru_cache(maxsize=8)
def _pascal(n: int) -> Array:
    """[n + 1, n + 1], C(row, column); every sum is of positive terms, so the relative error is below n·2^-53."""
    rows = np.zeros((n + 1, n + 1))
    rows[:, 0] = 1
    for i in range(1, n + 1):
        rows[i, 1:] = rows[i - 1, 1:] + rows[i - 1, :-1]
    rows.setflags(write=False)
    return rows


@lru_cache(maxsize=8)
def _lag(n: int) -> npt.NDArray[np.int64]:
    """[n + 1, n + 1], column - row: polynomial[lag] is the matrix that multiplies by it."""
    places = np.arange(n + 1)
    return places[None, :] - places[:, None]


def mean_and_error(values: npt.ArrayLike) -> tuple[Array, Array]:
    """The average of curves over questions, and its standard error.

    The error is s/√Q with s the standard deviation (Q - 1) of the column. Questions are taken to be drawn
    independently, and the n paths of each independently given the question, so it covers both draws: another Q
    questions, each with n fresh paths. It does not cover what all questions share (prompt, demonstrations, model),
    and neighbouring m rest on the same paths, so the errors along a curve are strongly correlated.

    Args:
        values: [Q, n], one `maj_curve` in each row.
    Returns:
        [n] means and [n] standard errors; the errors are nan for a single question.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or not len(rows):  # noqa: PLR2004
        raise UserError(f"a curve is averaged over the rows of [Q, n] with Q at least 1, got shape {rows.shape}")
    if len(rows) == 1:
        return rows[0], np.full(rows.shape[1], np.nan)
    return rows.mean(axis=0), rows.std(axis=0, ddof=1) / math.sqrt(len(rows))


def certainty(answers: Sequence[str | None]) -> float:
    """The probability that the leading answer is the majority among it and the second.

    P(p > ½) for p ~ Beta(a + 1, b + 1), with a ≥ b the two largest counts. For whole a and b that is the chance of
    at least b + 1 heads in a + b + 1 tosses of a fair coin.

    Source: Aggarwal et al. 2023, arXiv:2305.11860, the Beta stopping criterion.

    >>> certainty(["18", "18", "18", None])  # at least 1 head in 4 tosses: 15/16
    0.9375
    """
    ranked = Counter(answer for answer in answers if answer is not None).most_common(2)
    a, b = [count for _, count in ranked] + [0] * (2 - len(ranked))
    tosses = a + b + 1
    return sum(math.comb(tosses, heads) for heads in range(b + 1, tosses + 1)) / (1 << tosses)


def settled(answers: Sequence[str | None], threshold: float = 0.95) -> bool:
    """Whether sampling may stop: `certainty` has reached the threshold, which lies in (½, 1]."""
    if not 0.5 < threshold <= 1:  # noqa: PLR2004
        raise UserError(f"the threshold is a probability above 1/2, got {threshold}")
    return certainty(answers) >= threshold
