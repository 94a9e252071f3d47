"""A model that shows how many requests go out together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from icl.lm import LM, Completion, Request, Score, scoring
from templates.prompt import Prompt

QUIET = 100  # turns of the event loop without a new request, after which nothing else is on its way


@dataclass
class Waves:
    """`inner`, answering in waves: only when everything else waits for it, and then all that has come at once.

    So independent requests fall into one wave, and a search whose independent requests go out together has no more
    waves than it is deep, while one that awaits them one by one has a wave for each:

        lm = Waves(Scripted({...}))
        await tree_of_thoughts(problem, lm)
        assert lm.waves == [1, 5, 5]  # requests in each wave

    It counts turns of the event loop, not seconds, so it gives the same waves on every machine. Work in threads and
    other processes is not waited for. It belongs directly around the model, inside a cache.
    """

    inner: LM
    waves: list[int] = field(default_factory=list, init=False)  # how many calls each wave had
    _gathering: "_Wave | None" = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """The wrapped model's."""
        return self.inner.name

    async def generate(self, request: Request) -> list[Completion]:
        """The wrapped model's samples, with the wave."""
        await self._wave()
        return await self.inner.generate(request)

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """The wrapped model's scores, with the wave."""
        inner = scoring(self.inner)
        await self._wave()
        return await inner.score(prompt, continuations)

    async def _wave(self) -> None:
        if self._gathering is not None:
            wave = self._gathering
            wave.size += 1
            await wave.over.wait()
            return
        wave = self._gathering = _Wave()
        try:
            await wave.settled()
        finally:  # the first of a wave may be cancelled; the others are answered all the same
            self._gathering = None
            self.waves.append(wave.size)
            wave.over.set()


@dataclass
class _Wave:
    size: int = 1
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def settled(self) -> None:
        """Return when no call has joined for a while."""
        quiet, size = 0, self.size
        while quiet < QUIET:
            await asyncio.sleep(0)
            quiet, size = (quiet + 1 if self.size == size else 0), self.size
