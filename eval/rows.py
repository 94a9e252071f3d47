"""What became of one question."""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum

from pydantic import BaseModel

from icl.trace import Problem, Trace

Right = Callable[[str | None, str | None], bool]  # whether two answers are one


class Outcome(StrEnum):
    """Right, wrong, unread and failed are four different things; an exception is never a score."""

    RIGHT = "right"
    WRONG = "wrong"
    UNREAD = "unread"  # the model answered, but no answer could be read
    FAILED = "failed"  # the model could not be asked


class Row(BaseModel):
    """One line of `rows.jsonl`."""

    id: str
    question: str
    gold: str | None
    outcome: Outcome | None  # None where there is no gold answer
    answer: str | None
    share: float | None = None  # of the votes that the answer got
    answers: list[str | None] = []  # of the samples, in order
    completions: list[str] = []  # the texts, in the order of the trace's thoughts
    demos: list[str] = []  # ids, as they stand in the prompt
    dropped: int = 0  # demonstrations that did not fit
    cut: int = 0  # texts that end where max_tokens were used up
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None


def row_of(problem: Problem, result: Trace | Exception, right: Right) -> Row:
    """The row of a question that was answered, or that failed."""
    gold = problem.query.answer
    row = Row(
        id=problem.query.id,
        question=problem.query.question,
        gold=gold,
        outcome=None,
        answer=None,
        demos=[demo.example.id for demo in problem.demos],
        dropped=problem.dropped,
    )
    if isinstance(result, Exception):
        return row.model_copy(update={"outcome": Outcome.FAILED, "error": str(result)})
    usage = result.usage
    return row.model_copy(
        update={
            "outcome": None if gold is None else outcome_of(result.answer, gold, right),
            "answer": result.answer,
            "share": result.votes.share if result.votes else None,
            "answers": list(result.votes.answers) if result.votes else [],
            "completions": [thought.text for thought in result.thoughts],
            "cut": sum(thought.cut for thought in result.thoughts),
            "calls": usage.calls,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        }
    )


def outcome_of(answer: str | None, gold: str, right: Right) -> Outcome:
    """Of a question that was answered."""
    if answer is None:
        return Outcome.UNREAD
    return Outcome.RIGHT if right(answer, gold) else Outcome.WRONG


def counted(rows: Sequence[Row]) -> dict[Outcome, int]:
    """How many rows had each outcome, all four always named."""
    found = Counter(row.outcome for row in rows)
    return {outcome: found[outcome] for outcome in Outcome}
