"""A model that says what a test wrote down, and nothing else."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from icl.backends.samples import Places, completions, key_of
from icl.lm import Completion, Request, Score
from templates.errors import UnscriptedPrompt, Unsupported
from templates.prompt import Prompt, shown

Reply: TypeAlias = str | Sequence[str]


@dataclass
class Scripted:
    r"""For tests of prompts: every exact prompt that may be asked, with its reply. Any other prompt fails the test.

    >>> import asyncio
    >>> lm = Scripted({"Q: 9 * 2?\nA:": ["is 18", "is 20"]})
    >>> [sample.text for sample in asyncio.run(lm.generate(Request("Q: 9 * 2?\nA:", n=2)))]
    ['is 18', 'is 20']

    A list is handed out in order, one text per sample, across requests: the first request gets the first n, a later
    one at other seeds goes on from there, and a seed that was seen before gets its text again (see `Places`). A text
    ends before a stop string of the request; `max_tokens` and temperature change nothing. Tokens are counted in words.

    Args:
        script: prompt -> reply, or a function of the request. A reply is one text, which every sample says, or a list
            with a text for each sample.
        name: for reports.
        scores: (prompt, continuation) -> log-probability; without it this model cannot score.
    """

    script: Mapping[Prompt, Reply] | Callable[[Request], Reply]
    name: str = field(default="scripted", kw_only=True)
    scores: Mapping[tuple[Prompt, str], float] | None = field(default=None, kw_only=True)
    requests: list[Request] = field(default_factory=list, init=False, repr=False)  # all that were made, in order
    scored: list[tuple[Prompt, tuple[str, ...]]] = field(default_factory=list, init=False, repr=False)  # likewise

    def __post_init__(self) -> None:
        self._places = Places()
        listed = {} if callable(self.script) else self.script
        self._replies = {key_of(prompt): (prompt, reply) for prompt, reply in listed.items()}
        self._scores = {(key_of(prompt), text): value for (prompt, text), value in (self.scores or {}).items()}

    async def generate(self, request: Request) -> list[Completion]:
        """The scripted reply.

        Raises:
            UnscriptedPrompt: the script does not hold the prompt, or not so many samples of it.
        """
        self.requests.append(request)
        texts = self._called(self.script, request) if callable(self.script) else self._listed(request)
        return completions(request, texts, words=True)

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """The scripted log-probabilities, each as that of a single token.

        Raises:
            Unsupported: there are no scores.
            UnscriptedPrompt: not for this prompt and continuation.
        """
        if self.scores is None:
            raise Unsupported(f"{self.name} cannot score continuations; give it scores={{(prompt, continuation): …}}")
        self.scored.append((prompt, tuple(continuations)))
        if missing := [text for text in continuations if (key_of(prompt), text) not in self._scores]:
            raise UnscriptedPrompt(f"no score for {missing} after {shown(prompt)!r}; add them to scores")
        return [Score((self._scores[key_of(prompt), text],)) for text in continuations]

    def restart(self) -> None:
        """Begin again: every list at its first text, nothing recorded."""
        self._places.restart()
        self.requests.clear()
        self.scored.clear()

    def _called(self, script: Callable[[Request], Reply], request: Request) -> Sequence[str]:
        reply = script(request)
        texts = [reply] * request.n if isinstance(reply, str) else reply
        if len(texts) != request.n:
            raise UnscriptedPrompt(
                f"the script gave {len(texts)} texts for n={request.n} samples of {shown(request.prompt)!r}"
            )
        return texts

    def _listed(self, request: Request) -> Sequence[str]:
        key = key_of(request.prompt)
        if key not in self._replies:
            raise UnscriptedPrompt(self._unknown(request.prompt))
        _, reply = self._replies[key]
        if isinstance(reply, str):
            return [reply] * request.n
        places = self._places.of(key, request)
        if max(places) >= len(reply):
            raise UnscriptedPrompt(
                f"sample {max(places) + 1} was asked of {shown(request.prompt)!r}, which has {len(reply)} texts in the "
                "script; add some, or restart() between runs"
            )
        return [reply[place] for place in places]

    def _unknown(self, prompt: Prompt) -> str:
        asked = shown(prompt)
        if not self._replies:
            return f"the script is empty, and was asked:\n{asked}"
        known = [shown(scripted) for scripted, _ in self._replies.values()]
        diff = difflib.unified_diff(
            _lines(nearest(asked, known)), _lines(asked), "nearest in the script", "asked", lineterm=""
        )
        return "\n".join([f"the script does not hold the prompt\n{asked}\n", *diff])


def nearest(text: str, others: Sequence[str]) -> str:
    """The one of the others that shares most lines with the text, and among equals most characters."""

    def alike(other: str) -> tuple[float, float]:
        lines = difflib.SequenceMatcher(None, text.splitlines(), other.splitlines(), autojunk=False)
        return lines.ratio(), difflib.SequenceMatcher(None, text, other).quick_ratio()

    return max(others, key=alike)


def _lines(text: str) -> list[str]:
    """The lines with their ends made visible, as a prompt may fail by a space."""
    return [repr(line)[1:-1] for line in text.splitlines(keepends=True)]
