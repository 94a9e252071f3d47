"""A model with a meter: what was really asked of it, how long it took, and what it cost."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from icl.lm import LM, Completion, Request, Score, scoring
from templates.prompt import Prompt


@dataclass(frozen=True)
class Price:
    """What a provider charges, in its currency per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0
    cached: float | None = None  # prompt tokens from the provider's cache; None: as other prompt tokens


@dataclass
class Meter:
    """The reading of a meter."""

    calls: int = 0
    failed: int = 0
    samples: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    busy_seconds: float = 0.0  # wall time during which at least one call was open
    most_open: int = 0  # calls open at once, at the most

    def cost(self, price: Price) -> float:
        """In the price's currency."""
        cached = price.prompt if price.cached is None else price.cached
        fresh = self.prompt_tokens - self.cached_tokens
        return (fresh * price.prompt + self.cached_tokens * cached + self.completion_tokens * price.completion) / 1e6


@dataclass
class Metered:
    """`inner`, with a `meter` that counts what passes. Inside `Cached` it counts what the cache did not have."""

    inner: LM
    meter: Meter = field(default_factory=Meter, init=False)

    def __post_init__(self) -> None:
        self._open, self._since = 0, 0.0

    @property
    def name(self) -> str:
        """The wrapped model's."""
        return self.inner.name

    async def generate(self, request: Request) -> list[Completion]:
        """The wrapped model's samples; a prompt counts once, however many samples it yields."""
        with self._call():
            completions = await self.inner.generate(request)
        self.meter.samples += len(completions)
        self.meter.prompt_tokens += completions[0].prompt_tokens
        self.meter.cached_tokens += completions[0].cached_tokens
        self.meter.completion_tokens += sum(completion.tokens for completion in completions)
        return completions

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """The wrapped model's scores; the continuations' tokens count as prompt tokens."""
        inner = scoring(self.inner)
        with self._call():
            scores = await inner.score(prompt, continuations)
        self.meter.prompt_tokens += sum(len(score.logprobs) for score in scores)
        return scores

    @contextmanager
    def _call(self) -> Iterator[None]:
        meter = self.meter
        meter.calls += 1
        if self._open == 0:
            self._since = monotonic()
        self._open += 1
        meter.most_open = max(meter.most_open, self._open)
        try:
            yield
        except BaseException:
            meter.failed += 1
            raise
        finally:
            self._open -= 1
            if self._open == 0:
                meter.busy_seconds += monotonic() - self._since
