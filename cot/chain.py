"""The simplest strategies: one prompt, one greedy completion, one answer."""

from dataclasses import dataclass

from icl.lm import LM, Request
from icl.trace import Problem, Trace, sampled


@dataclass(frozen=True)
class Direct:
    """Ask for the answer alone: the baseline of every chain of thought. Take a template that shows answers only."""

    max_tokens: int = 32

    async def __call__(self, problem: Problem, lm: LM) -> Trace:
        """One greedy completion, read."""
        return await ask_once(problem, lm, self.max_tokens)


@dataclass(frozen=True)
class FewShotCoT:
    """Few-shot chain of thought: demonstrations ⟨x, r, y⟩ show how to reason (Wei et al. 2022, arXiv:2201.11903).

    Unlike `Direct`: the template's demonstrations show rationales, so the completion needs room for one.
    """

    max_tokens: int = 512

    async def __call__(self, problem: Problem, lm: LM) -> Trace:
        """One greedy completion, read."""
        return await ask_once(problem, lm, self.max_tokens)


async def ask_once(problem: Problem, lm: LM, max_tokens: int) -> Trace:
    """The problem's own prompt, completed greedily once."""
    request = Request(problem.prompt, max_tokens=max_tokens, stop=problem.template.stop, seed=problem.seed)
    thoughts = sampled(await lm.generate(request), problem.reader)
    return Trace(thoughts[0].answer, thoughts)
