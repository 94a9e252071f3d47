"""Texts that stand for a model's samples: which text is which sample. `Scripted` and `Replay` share this."""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from icl.lm import Completion, Request
from templates.prompt import Prompt, as_json, shown


@dataclass
class Places:
    """Hands out the places of a list, in order, to the samples that are asked for.

    A seed names a sample, as it does for a real model: asked for again it is the same one, and a seed that was not seen
    before gets the next place. So n samples are the first n places, and a later request for more, at `seed + n`,
    continues there.
    """

    _seen: dict[Hashable, dict[int, int]] = field(default_factory=dict)

    def of(self, key: Hashable, request: Request) -> list[int]:
        """The place of each of the request's samples in the list of that key."""
        seen = self._seen.setdefault(key, {})
        return [seen.setdefault(request.seed + i, len(seen)) for i in range(request.n)]

    def restart(self) -> None:
        """Forget what was handed out: every list begins again."""
        self._seen.clear()


def key_of(prompt: Prompt) -> str:
    """A string that is equal for equal prompts only."""
    return dumped(as_json(prompt))


def dumped(prompt_json: Any) -> str:
    """The same string, from what `as_json` gives."""
    return json.dumps(prompt_json, sort_keys=True)


def completions(request: Request, texts: Sequence[str], *, words: bool = False) -> list[Completion]:
    """The texts as completions, each cut before the first stop string in it.

    Args:
        request: what was asked.
        texts: one per sample.
        words: count white-space separated words as tokens; otherwise there are none, as no model ran.
    """
    cut = [_until_stop(text, request.stop) for text in texts]
    prompt = len(shown(request.prompt).split()) if words else 0
    return [Completion(text, prompt_tokens=prompt, tokens=len(text.split()) if words else 0) for text in cut]


def _until_stop(text: str, stop: Sequence[str]) -> str:
    return text[: min((at for s in stop if (at := text.find(s)) >= 0), default=len(text))]
