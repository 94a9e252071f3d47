"""A model that is asked only for what is not stored: every completion is, the moment it arrives."""

import asyncio
import json
from collections import ChainMap
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from icl.backends.store import Store
from icl.concurrency import gather
from icl.lm import LM, Completion, Request, Score, scoring
from templates.prompt import Prompt, as_json


def sample_keys(name: str, request: Request) -> list[bytes]:
    """One key for each of the request's samples: the model's name and every field of the request.

    Sample i of n is the only sample of a request with `seed + i`, and has that request's key. So n is not in the key:
    40 stored samples grow to 80 by asking for the 40 that are missing.
    """
    whole = {f.name: getattr(request, f.name) for f in fields(request) if f.name not in ("n", "seed", "prompt")}
    base = _hash(["generate", name, as_json(request.prompt), whole])
    return [_with(base, request.seed + i) for i in range(request.n)]


def score_keys(name: str, prompt: Prompt, continuations: Sequence[str]) -> list[bytes]:
    """One key for each continuation."""
    base = _hash(["score", name, as_json(prompt)])
    return [_with(base, continuation) for continuation in continuations]


def _hash(value: Any) -> "blake2b":
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16)


def _with(base: "blake2b", value: object) -> bytes:
    whole = base.copy()
    whole.update(f"\0{value}".encode())
    return whole.digest()


@dataclass
class Cached:
    """`inner`, with every completion and score kept in a SQLite file.

    Args:
        inner: the model that is asked for what is not there.
        path: the file; several processes may use it at the same time.
    """

    inner: LM
    path: Path | str
    hits: int = field(default=0, init=False)  # samples and scores that were there
    misses: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._store = Store(self.path)
        # For each event loop, as their events are their own: set when whoever asks has an answer, or none.
        self._asked: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bytes, asyncio.Event]] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The wrapped model's."""
        return self.inner.name

    async def generate(self, request: Request) -> list[Completion]:
        """The samples of the request; only those that are not stored are asked for, at once and once."""
        keys = sample_keys(self.inner.name, request)

        async def ask(run: list[int]) -> dict[bytes, str]:
            part = replace(request, n=len(run), seed=request.seed + run[0])
            fresh = await self.inner.generate(part)
            return self._store.keep({keys[i]: _dump(sample) for i, sample in zip(run, fresh, strict=True)})

        async def ask_all(missing: set[bytes]) -> dict[bytes, str]:
            parts = await gather(ask, runs([i for i, key in enumerate(keys) if key in missing]))
            return dict(ChainMap(*parts))

        known = await self._completed(keys, ask_all)
        return [Completion(**json.loads(known[key])) for key in keys]

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """The scores of the continuations; only those that are not stored are asked for, in one call."""
        inner = scoring(self.inner)
        keys = score_keys(inner.name, prompt, continuations)

        async def ask(missing: set[bytes]) -> dict[bytes, str]:
            texts = {key: text for key, text in zip(keys, continuations, strict=True) if key in missing}
            fresh = await inner.score(prompt, list(texts.values()))
            return self._store.keep({key: json.dumps(s.logprobs) for key, s in zip(texts, fresh, strict=True)})

        known = await self._completed(keys, ask)
        return [Score(tuple(json.loads(known[key]))) for key in keys]

    async def aclose(self) -> None:
        """Close the file; the wrapped model is closed by whoever closes all layers."""
        self._store.close()

    async def _completed(
        self, keys: Sequence[bytes], ask: Callable[[set[bytes]], Awaitable[dict[bytes, str]]]
    ) -> dict[bytes, str]:
        """What is stored under the keys; what is not is asked for, unless another request is asking for it just now."""
        known = self._store.read(keys)
        there = sum(key in known for key in keys)
        self.hits += there
        self.misses += len(keys) - there
        asked = self._asked.setdefault(asyncio.get_running_loop(), {})
        while missing := set(keys) - known.keys():
            others = {asked[key] for key in missing & asked.keys()}
            if mine := missing - asked.keys():
                done = asyncio.Event()
                asked |= dict.fromkeys(mine, done)
                try:
                    known |= await ask(mine)
                finally:
                    for key in mine:
                        del asked[key]
                    done.set()
            for other in others:
                await other.wait()
            known |= self._store.read(list(missing - mine))  # still missing where the other request failed
        return known


def runs(numbers: Sequence[int]) -> list[list[int]]:
    """Ascending numbers, cut where one is missing.

    >>> runs([0, 1, 2, 5, 6, 9])
    [[0, 1, 2], [5, 6], [9]]
    """
    grouped = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    return [[number for _, number in run] for _, run in grouped]


def _dump(completion: Completion) -> str:
    return json.dumps(asdict(completion))
