"""One count of votes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from templates.errors import UserError


@dataclass(frozen=True)
class Votes:
    """The votes of n paths for canonical answers; a path whose answer could not be read says None.

    >>> votes = Votes.count(["18", "20", "18", None, "18"])
    >>> votes.winner, votes.share, votes.unread
    ('18', 0.6, 1)
    """

    answers: tuple[str | None, ...]  # in sample order
    weights: tuple[float, ...] | None = None  # None: each path counts 1
    logprobs: tuple[float | None, ...] | None = None  # of a whole path: the sum over its tokens

    def __post_init__(self) -> None:
        for name, values in (("weights", self.weights), ("logprobs", self.logprobs)):
            if values is not None and len(values) != self.n:
                raise UserError(f"{self.n} answers but {len(values)} {name}; give one for each path")
        for weight in self.weights or ():
            if not (math.isfinite(weight) and weight >= 0):
                raise UserError(f"a vote's weight is finite and at least 0, got {weight}")
        for logprob in self.logprobs or ():
            if logprob is not None and math.isnan(logprob):
                raise UserError("a path's log-probability is nan; hand in None where it is not known")

    @classmethod
    def count(
        cls,
        answers: Sequence[str | None],
        weights: Sequence[float] | None = None,
        logprobs: Sequence[float | None] | None = None,
    ) -> "Votes":
        """The votes of any sequences, in sample order."""
        return cls(
            tuple(answers),
            None if weights is None else tuple(weights),
            None if logprobs is None else tuple(logprobs),
        )

    @property
    def n(self) -> int:
        """How many paths there are, unread ones included."""
        return len(self.answers)

    @property
    def unread(self) -> int:
        """How many paths have no answer."""
        return self.answers.count(None)

    @property
    def tally(self) -> dict[str, float]:
        """The weight of each answer, in the order in which they were first seen."""
        piles: dict[str, list[float]] = {}
        for answer, weight in zip(self.answers, self._weights(), strict=True):
            if answer is not None:
                piles.setdefault(answer, []).append(weight)
        return {answer: math.fsum(pile) for answer, pile in piles.items()}  # fsum: in any order the same

    @property
    def winner(self) -> str | None:
        """argmax_a Σ_i w_i 1(a_i = a); a tie goes to the higher log-probability, then to the first seen.

        Log-probabilities are summed over an answer's paths, and compared only when every path of every tied answer
        has one. None when nothing was read.
        """
        tally = self.tally
        tied = [answer for answer, weight in tally.items() if weight == max(tally.values())]
        return max(tied, key=self._logprobs_of(tied).__getitem__, default=None)  # max keeps the first of equals

    @property
    def share(self) -> float:
        """The winner's weight over the weight of all paths, unread ones included; 0 when nothing was read."""
        total = math.fsum(self._weights())
        return self.tally[self.winner] / total if self.winner is not None and total else 0.0

    def __str__(self) -> str:
        """Answers with their weights, the winner first: `18: 3, 20: 1, unread: 1`."""
        ranked = sorted(self.tally.items(), key=lambda pair: (pair[0] != self.winner, -pair[1]))
        unread = math.fsum(w for a, w in zip(self.answers, self._weights(), strict=True) if a is None)
        return ", ".join(f"{a}: {w:.4g}" for a, w in [*ranked, *([("unread", unread)] if self.unread else [])])

    def _weights(self) -> tuple[float, ...]:
        return (1.0,) * self.n if self.weights is None else self.weights

    def _logprobs_of(self, tied: Sequence[str]) -> dict[str, float]:
        """The summed log-probability of each tied answer; the same for all where one is not known."""
        pairs = list(zip(self.answers, self.logprobs or (None,) * self.n, strict=True))
        known = {a: [lp for b, lp in pairs if b == a and lp is not None] for a in tied}
        if any(len(known[a]) < self.answers.count(a) for a in tied):
            return dict.fromkeys(tied, 0.0)
        return {a: math.fsum(logprobs) for a, logprobs in known.items()}
