"""A model that tries again what is worth another try."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import TypeVar

from icl.lm import LM, Completion, Counting, Request, Score, find, scoring
from icl.seeds import generator
from templates.errors import BadReply, Transient, Unsupported, UserError
from templates.prompt import Prompt, as_json

T = TypeVar("T")


@dataclass
class Retrying:
    """`inner`, asked again when it fails with `Transient` or `BadReply` (which may be a proxy's hiccup).

    Before try i + 1 it waits u·min(most, first·2^(i - 1)) seconds, u uniform in [0, 1): exponential back-off with full
    jitter. Where the server asks for a wait, that comes on top, so that not all come back at the same moment.
    Every other error passes at once.

    Args:
        inner: the model that may fail.
        attempts: tries in all.
        first: the longest wait before the second try, in seconds.
        most: the longest wait before any try, unless the server asks for a longer one.
        sleep: how to wait.
        seed: of the jitter; each request draws from its own stream.

    Source: Brooker 2015, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    inner: LM
    attempts: int = 6
    first: float = 0.5
    most: float = 60.0
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.attempts < 1 or not 0 <= self.first <= self.most:
            raise UserError(
                f"retrying needs attempts ≥ 1 and 0 ≤ first ≤ most, got attempts={self.attempts}, first={self.first}, "
                f"most={self.most}"
            )

    @property
    def name(self) -> str:
        """The wrapped model's."""
        return self.inner.name

    async def generate(self, request: Request) -> list[Completion]:
        """The wrapped model's samples."""
        said = {f.name: getattr(request, f.name) for f in fields(request)} | {"prompt": as_json(request.prompt)}
        return await self._retried(lambda: self.inner.generate(request), json.dumps(said))

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """The wrapped model's scores."""
        inner = scoring(self.inner)
        said = json.dumps([as_json(prompt), *continuations])
        return await self._retried(lambda: inner.score(prompt, continuations), said)

    async def count(self, prompts: Sequence[Prompt]) -> list[int]:
        """The wrapped model's counts, where it counts."""
        counter = self._counter()
        return await self._retried(lambda: counter.count(prompts), "count")

    async def context(self) -> int:
        """The wrapped model's context, where it tells."""
        return await self._retried(self._counter().context, "context")

    def _counter(self) -> Counting:
        if counter := find(self.inner, Counting):  # type: ignore[type-abstract]
            return counter
        raise Unsupported(f"{self.inner.name} does not count tokens")

    async def _retried(self, call: Callable[[], Awaitable[T]], request: str) -> T:
        jitter = generator(self.seed, request)
        attempt = 0
        while True:
            attempt += 1
            try:
                return await call()
            except (Transient, BadReply) as error:
                if attempt >= self.attempts:
                    last = copy(error)  # others may wait for the same one
                    last.args = (f"{error}; gave up after {attempt} attempts",)
                    raise last from error
                asked = getattr(error, "after", None) or 0.0
            await self.sleep(asked + jitter.uniform(0, min(self.most, self.first * 2 ** (attempt - 1))))
