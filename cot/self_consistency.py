"""Self-consistency: many sampled chains of thought, one vote each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cot.votes import normalised_sum, unnormalised_sum, unweighted
from icl.lm import GREEDY, LM, Completion, Request
from icl.trace import Problem, Thought, Trace, sampled
from icl.votes import Votes
from templates.answers import spelt_alike
from templates.errors import UserError

Weighing: TypeAlias = Literal["majority", "normalised", "unnormalised"]
_WEIGHTS = {"majority": unweighted, "normalised": normalised_sum, "unnormalised": unnormalised_sum}


@dataclass(frozen=True)
class SelfConsistency:
    """Sample n reasoning paths, marginalise them out, take the most frequent answer.

    Wang et al. 2023, arXiv:2203.11171.

    Unlike `FewShotCoT`: n samples at a temperature, in one request, instead of one greedy path. A tie goes to the
    answer with the higher summed log-probability where `weigh` asks the engine for them, otherwise to the first seen.

    Args:
        n: paths.
        temperature: the paper's 0.7; 0.5 suits smaller models.
        top_k: the paper's 40; 0 is off.
        top_p: 1 is off.
        max_tokens: of a path.
        weigh: "majority" counts every path once. "normalised" weighs it by its probability per token, exp(mean
            log-probability), "unnormalised" by its probability; both ask the engine for log-probabilities, which cost
            it time.
    """

    n: int = 40
    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 1.0
    max_tokens: int = 512
    weigh: Weighing = "majority"

    def __post_init__(self) -> None:
        """Refuse what would sample the same path n times."""
        refuse_greedy(self.temperature, self.n)

    async def __call__(self, problem: Problem, lm: LM) -> Trace:
        """One request, one prefill, n paths."""
        request = Request(
            problem.prompt,
            n=self.n,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            stop=problem.template.stop,
            seed=problem.seed,
            logprobs=self.weigh != "majority",
        )
        paths = await lm.generate(request)
        return voted(sampled(paths, problem.reader), paths, self.weigh)


def voted(thoughts: tuple[Thought, ...], paths: Sequence[Completion], weigh: Weighing) -> Trace:
    """The star of sampled thoughts, and the vote of their answers a_1 … a_n (None where none could be read)."""
    logprobs = [path.logprob for path in paths]
    weights = _WEIGHTS[weigh](logprobs, [path.tokens for path in paths])
    votes = Votes.count(spelt_alike([thought.answer for thought in thoughts]), weights, logprobs)
    return Trace(votes.winner, thoughts, votes)  # argmax_a Σ_i 1(a_i = a)


def refuse_greedy(temperature: float, n: int) -> None:
    """Greedy paths are all the same, so their vote says nothing."""
    if temperature < GREEDY or n < 1:
        raise UserError(f"self-consistency needs temperature > 0 and n ≥ 1, got temperature={temperature}, n={n}")
