"""A problem, and the graph of thoughts that a strategy made of it: a chain, a star, a tree are the same type."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from icl.example import Demo, Example
from icl.lm import LM, Completion, Usage
from icl.votes import Votes
from templates.answers import Reader
from templates.errors import UserError
from templates.prompt import Prompt
from templates.template import Fields, Template


@dataclass(frozen=True)
class Problem:
    """One question, ready for a strategy: its demonstrations are chosen, ordered, and fit the context."""

    query: Example
    template: Template
    demos: tuple[Demo, ...] = ()  # most useful last
    seed: int = 0
    dropped: int = 0  # demonstrations that did not fit the context

    @property
    def reader(self) -> Reader:
        """The model's text -> canonical answer, or None."""
        return self.template.reader

    @property
    def prompt(self) -> Prompt:
        """The template's prompt for the query and its demonstrations."""
        return self.template.render(self.query.fields, [_shown(demo.example) for demo in self.demos])


def _shown(example: Example) -> tuple[Fields, str]:
    if example.answer is None:
        raise UserError(f"example {example.id!r} has no answer, so it cannot be a demonstration; leave it out")
    return example.shown, example.answer


@dataclass(frozen=True)
class Thought:
    """One piece of a model's text, and the thoughts that it came from."""

    id: int
    text: str
    parents: tuple[int, ...] = ()
    score: float | None = None
    answer: str | None = None
    usage: Usage = field(default_factory=Usage)
    cut: bool = False  # whether the text ends where max_tokens were used up, not where the model ended it


@dataclass(frozen=True)
class Trace:
    """What a strategy did, and the answer it came to (None: nothing could be read)."""

    answer: str | None
    thoughts: tuple[Thought, ...] = ()
    votes: Votes | None = None

    def __str__(self) -> str:
        """The answer, the votes, and the thoughts with their parents, for a person."""
        votes = f" ({self.votes})" if self.votes else ""
        lines = [f"answer: {self.answer}{votes}"]
        for thought in self.thoughts:
            after = f" after {', '.join(map(str, thought.parents))}" if thought.parents else ""
            lines.append(f"[{thought.id}{after}] {thought.text.strip()}")
        return "\n".join(lines)

    @property
    def usage(self) -> Usage:
        """What all thoughts together asked of the model."""
        return sum((thought.usage for thought in self.thoughts), Usage())


class Strategy(Protocol):
    """A way to get from a problem to an answer."""

    async def __call__(self, problem: Problem, lm: LM) -> Trace: ...  # noqa: D102


def sampled(
    completions: Sequence[Completion], read: Reader | None = None, *, parents: tuple[int, ...] = (), start: int = 0
) -> tuple[Thought, ...]:
    """The samples of one request as thoughts, ids from `start` on; the first one carries the call and its prompt."""
    return tuple(
        Thought(
            id=start + i,
            text=completion.text,
            parents=parents,
            answer=read(completion.text) if read else None,
            usage=Usage.of([completion]) if i == 0 else Usage(completion_tokens=completion.tokens),
            cut=completion.finish == "length",
        )
        for i, completion in enumerate(completions)
    )
