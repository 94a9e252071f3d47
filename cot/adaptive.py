"""Self-consistency that stops when the vote is settled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cot.self_consistency import Weighing, refuse_greedy, voted
from cot.votes import settled
from icl.lm import LM, Completion, Request
from icl.trace import Problem, Thought, Trace, sampled
from templates.answers import spelt_alike
from templates.errors import UserError

Rule: TypeAlias = Callable[[Sequence[str | None]], bool]  # whether the answers so far settle the vote


@dataclass(frozen=True)
class AdaptiveSelfConsistency:
    """Sample until the leading answer's majority is likely enough (Aggarwal et al. 2023, arXiv:2305.11860).

    Unlike `SelfConsistency`: asks in windows, and stops when P(p_top > ½) ≥ 0.95 under Beta(a + 1, b + 1), where a and
    b are the two largest counts. Sample i is the same as there, so a cache serves both. When `most` is reached the
    leading answer wins as it stands.

    Args:
        most: paths, at the most.
        window: paths in one request: the paper asks one by one, which leaves an engine idle.
        stop: "settled" is the rule above; "unanimous" stops when a window says one thing (Li et al. 2024,
            arXiv:2401.10480); a function of the answers so far is a rule of one's own.
        temperature: as in `SelfConsistency`, and so are the others.
    """

    most: int = 40
    window: int = 5
    stop: Literal["settled", "unanimous"] | Rule = "settled"
    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 1.0
    max_tokens: int = 512
    weigh: Weighing = "majority"

    def __post_init__(self) -> None:
        """Refuse windows that get nowhere."""
        refuse_greedy(self.temperature, self.most)
        if self.stop not in ("settled", "unanimous") and not callable(self.stop):
            raise UserError(f'stop is "settled", "unanimous" or a function of the answers, got {self.stop!r}')
        if self.window < 1:
            raise UserError(f"a window has a path at least, got window={self.window}")

    async def __call__(self, problem: Problem, lm: LM) -> Trace:
        """A window at a time; the next one depends on what this one said."""
        paths: list[Completion] = []
        thoughts: tuple[Thought, ...] = ()
        prompt, settles = problem.prompt, self._rule()
        while len(paths) < self.most and not (paths and settles(spelt_alike([t.answer for t in thoughts]))):
            window = await lm.generate(
                Request(
                    prompt,
                    n=min(self.window, self.most - len(paths)),
                    temperature=self.temperature,
                    top_p=self.top_p,
                    top_k=self.top_k,
                    max_tokens=self.max_tokens,
                    stop=problem.template.stop,
                    seed=problem.seed + len(paths),  # of the window's first sample
                    logprobs=self.weigh != "majority",
                )
            )
            thoughts += sampled(window, problem.reader, start=len(paths))
            paths += window
        return voted(thoughts, paths, self.weigh)

    def _rule(self) -> Rule:
        if self.stop == "settled":
            return settled
        return unanimous(self.window) if self.stop == "unanimous" else self.stop


def unanimous(window: int) -> Rule:
    """Stop when the last `window` paths all say the same (Li et al. 2024, arXiv:2401.10480)."""
    return lambda answers: len(answers) >= window and answers[-1] is not None and len(set(answers[-window:])) == 1
