"""How sure a score is, and whether two scores differ: intervals and paired tests."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt

from templates.errors import UserError

Array = npt.NDArray[np.float64]

BLOCK = 2**21  # random numbers drawn at once: 16 MiB


class Statistic(Protocol):
    """A number from values along an axis: `np.mean`, `np.median`, or a function of one's own."""

    def __call__(self, values: Array, /, *, axis: int) -> Array: ...  # noqa: D102


@dataclass(frozen=True)
class Interval:
    """From low to high, both included."""

    low: float
    high: float

    def __str__(self) -> str:
        """As in `0.255 to 0.366`."""
        return f"{self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class Paired:
    """System a against system b on the same Q questions."""

    difference: float  # mean of a - b
    interval: Interval  # of the difference
    p_value: float  # two-sided, that neither is better
    wins: int  # questions where a scores higher
    losses: int
    ties: int


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion: all p with |successes/n - p| ≤ z·√(p(1-p)/n).

    It stays within [0, 1], and is of use at 0 and n successes; nothing observed is [0, 1].

    Source: Wilson, JASA 1927, https://doi.org/10.1080/01621459.1927.10502953

    >>> print(wilson(81, 263))  # Newcombe 1998, Table I: 0.2553 to 0.3662
    0.2553 to 0.3662
    """
    if not 0 <= successes <= n:
        raise UserError(f"successes go from 0 to n, got {successes} of {n}")
    z = NormalDist().inv_cdf((1 + _probability(confidence)) / 2)
    if n == 0:
        return Interval(0.0, 1.0)
    p = successes / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = (centre - half) / scale if successes else 0.0  # exactly 0 and 1 at the ends, not nearly
    high = (centre + half) / scale if successes < n else 1.0
    return Interval(low, high)


def bootstrap(
    values: npt.ArrayLike,
    statistic: Statistic = np.mean,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 10_000,
) -> Interval:
    """The percentile bootstrap interval: the middle `confidence` of the statistic over resampled questions.

    Args:
        values: [Q], one score for each question.
        statistic: called with `axis=-1`, on blocks [resamples, Q].
        confidence: of the interval.
        seed: the same seed draws the same questions, whatever the values.
        resamples: how often Q questions are drawn with replacement.
    Returns:
        A single point when Q is 1 or all values are the same.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    scores = _scores(values)
    tail = (1 - _probability(confidence)) / 2
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(scores[rng.integers(0, len(scores), (rows, len(scores)))], axis=-1)
        for rows in _blocks(resamples, len(scores))
    ]
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return Interval(float(low), float(high))


def paired(
    a: npt.ArrayLike, b: npt.ArrayLike, *, confidence: float = 0.95, seed: int = 0, resamples: int = 10_000
) -> Paired:
    """Compare two systems question by question.

    The interval is `bootstrap`'s over the differences. The p-value is that of McNemar's exact test where all scores
    are 0 or 1, and otherwise of `sign_flip`; on scores of 0 and 1 the two are the same test.

    Args:
        a: [Q] scores.
        b: [Q] scores of the same questions, in the same order.
        confidence: of the interval.
        seed: of the resampling.
        resamples: for the interval, and for the p-value where it is not exact.
    """
    ours, theirs = _scores(a), _scores(b)
    if len(ours) != len(theirs):
        raise UserError(f"a paired test needs the same questions, got {len(ours)} scores against {len(theirs)}")
    gaps = ours - theirs
    wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
    binary = bool(np.isin(ours, (0, 1)).all() and np.isin(theirs, (0, 1)).all())
    return Paired(
        difference=float(gaps.mean()),
        interval=bootstrap(gaps, confidence=confidence, seed=seed, resamples=resamples),
        p_value=mcnemar(wins, losses) if binary else sign_flip(gaps, seed=seed, resamples=resamples),
        wins=wins,
        losses=losses,
        ties=len(gaps) - wins - losses,
    )


def mcnemar(wins: int, losses: int) -> float:
    """The exact two-sided p-value that a won question is as likely as a lost one: min(1, 2·P(Bin(n, ½) ≤ fewer)).

    Source: McNemar 1947, https://doi.org/10.1007/BF02295996, with the binomial in place of the χ² it approximates.

    >>> mcnemar(12, 2)  # 2·(1 + 14 + 91) / 2^14
    0.012939453125
    """
    n = wins + losses
    ways = tail = 1
    for k in range(min(wins, losses)):
        ways = ways * (n - k) // (k + 1)  # C(n, k + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << n))


def sign_flip(gaps: npt.ArrayLike, *, seed: int = 0, resamples: int = 10_000) -> float:
    """The p-value that a difference is as likely as its negative: how often |Σ ±gap| ≥ |Σ gap|.

    Over all 2^d signs of the d differences that are not 0, where there are no more than `resamples` of them; otherwise
    over that many random ones with the observed one added to both counts, so that it is never 0.

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    moved = _scores(gaps)
    moved = moved[moved != 0]
    reach = abs(moved.sum()) - 1e-12 * np.abs(moved).sum()  # a sum in another order is the same sum
    if 2 ** len(moved) <= resamples:
        sums = np.zeros(1)
        for gap in moved:
            sums = np.concatenate([sums + gap, sums - gap])
        return float((np.abs(sums) >= reach).mean())
    rng = np.random.default_rng(seed)
    hits = 0
    for rows in _blocks(resamples, len(moved)):
        signs = 2.0 * rng.integers(0, 2, (rows, len(moved)), dtype=np.int8) - 1
        hits += int((np.abs(signs @ moved) >= reach).sum())
    return (1 + hits) / (1 + resamples)


def _blocks(resamples: int, width: int) -> Iterator[int]:
    """How many resamples to draw at a time."""
    if resamples < 1:
        raise UserError(f"resampling takes at least 1 resample, got {resamples}")
    rows = max(1, BLOCK // width)
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)


def _probability(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise UserError(f"a confidence lies between 0 and 1, as 0.95 does, got {confidence}")
    return confidence


def _scores(values: npt.ArrayLike) -> Array:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise UserError(f"scores are one finite number for each of at least 1 question, got shape {scores.shape}")
    return scores
