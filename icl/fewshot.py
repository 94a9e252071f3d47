"""Demonstrations within the context: what does not fit is dropped, the least useful first, never the query."""

from collections.abc import Sequence
from dataclasses import replace

from icl.lm import Counting
from icl.trace import Problem
from templates.prompt import shown

# Layout that a chat template may add to a turn, in bytes; only used to see that a prompt surely fits.
_LAYOUT = 64


async def within(problems: Sequence[Problem], counter: Counting, budget: int) -> list[Problem]:
    """The problems, each with as many of its demonstrations as its prompt of at most `budget` tokens can hold.

    A problem says in `dropped` how many it lost. One whose query alone is too long loses all of them; the backend then
    refuses it by name.

    Args:
        problems: with all their demonstrations.
        counter: the model's own tokenizer.
        budget: tokens of the whole prompt.
    """
    fitting = list(problems)
    over = [i for i, problem in enumerate(fitting) if _may_exceed(problem, budget)]
    while over:
        counts = await counter.count([fitting[i].prompt for i in over])  # all of them at once
        over = [i for i, tokens in zip(over, counts, strict=True) if tokens > budget and fitting[i].demos]
        for i in over:
            fitting[i] = _without_least_useful(fitting[i])
    return fitting


def _may_exceed(problem: Problem, budget: int) -> bool:
    # No tokenizer in use makes more tokens than the text has bytes, so most prompts need not be counted at all.
    return len(shown(problem.prompt).encode()) + _LAYOUT * (2 * len(problem.demos) + 2) > budget


def _without_least_useful(problem: Problem) -> Problem:
    # Among equals the one farthest from the query goes: the last place is the most useful one.
    least = min(range(len(problem.demos)), key=lambda i: (problem.demos[i].score, i))
    kept = problem.demos[:least] + problem.demos[least + 1 :]
    return replace(problem, demos=kept, dropped=problem.dropped + 1)
