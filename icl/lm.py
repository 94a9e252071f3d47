"""What a language model is to the rest of the project: requests in, completions out."""

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

from icl.vectors import Array
from templates.errors import Unsupported, UserError
from templates.prompt import Prompt

GREEDY = 1e-5  # a temperature below this means the most likely token, as in vLLM


@dataclass(frozen=True)
class Request:
    """Samples wanted from one prompt.

    Sample i of n equals the only sample of a request with `seed + i`, so n samples can be stored one by one and grow.
    """

    prompt: Prompt
    n: int = 1
    temperature: float = 0.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int = 0
    logprobs: bool = False  # whether completions carry their log-probability; costs the engine time

    def __post_init__(self) -> None:
        """Refuse what no engine can do."""
        if self.n < 1 or self.max_tokens < 1 or self.top_k < 0:
            raise UserError(
                f"a request needs n ≥ 1, max_tokens ≥ 1 and top_k ≥ 0, got n={self.n}, max_tokens={self.max_tokens}, "
                f"top_k={self.top_k}"
            )
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"a request needs temperature ≥ 0 and 0 < top_p ≤ 1, got temperature={self.temperature}, "
                f"top_p={self.top_p}"
            )
        if "" in self.stop:
            raise UserError("an empty stop string would stop everything; leave it out")

    @property
    def greedy(self) -> bool:
        """Whether every token is the most likely one."""
        return self.temperature < GREEDY

    @property
    def distinct(self) -> int:
        """How many samples an engine need draw: greedy ones are all the same."""
        return 1 if self.greedy else self.n


@dataclass(frozen=True)
class Completion:
    """One sample: the text after the prompt, without the stop string."""

    text: str
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt's tokens, those that the engine had in its prefix cache
    tokens: int = 0  # tokens of the completion
    logprob: float | None = None  # sum over the completion's tokens, where the request asked for it


@dataclass(frozen=True)
class Score:
    """Log-probabilities of a continuation's tokens, given the prompt."""

    logprobs: tuple[float, ...]

    @property
    def sum(self) -> float:
        """Log-probability of the whole continuation."""
        return sum(self.logprobs)

    @property
    def mean(self) -> float:
        """Log-probability per token."""
        return self.sum / len(self.logprobs) if self.logprobs else 0.0


@dataclass(frozen=True)
class Usage:
    """What was asked of a model. A prompt counts once per request, however many samples it yields."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @staticmethod
    def of(completions: Sequence[Completion]) -> "Usage":
        """The usage of one request, from its completions."""
        prompt = completions[0].prompt_tokens if completions else 0
        return Usage(1, prompt, sum(completion.tokens for completion in completions))

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


class LM(Protocol):
    """Anything that completes prompts. `name` goes into every cache key and report."""

    @property
    def name(self) -> str: ...  # noqa: D102

    async def generate(self, request: Request) -> list[Completion]:
        """The n samples of the request, in sample order."""
        ...


@runtime_checkable
class ScoringLM(LM, Protocol):
    """A model that can say how likely a given continuation is."""

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """One score per continuation, all given the same prompt."""
        ...


def scoring(lm: LM) -> ScoringLM:
    """The model itself, where it can score.

    Raises:
        Unsupported: it cannot.
    """
    if not isinstance(lm, ScoringLM):
        raise Unsupported(f"{lm.name} cannot score continuations; use VLLM, Transformers, or a vLLM server")
    return lm


@runtime_checkable
class Counting(Protocol):
    """A model that knows its own tokenizer and how much fits."""

    async def count(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, special tokens and chat layout included."""
        ...

    async def context(self) -> int:
        """Tokens that prompt and completion may have together."""
        ...


@runtime_checkable
class Closing(Protocol):
    """A model that holds something to be given back: an engine, connections, a database."""

    async def aclose(self) -> None:
        """Give back what is held; the model cannot be used afterwards."""
        ...


class Embedder(Protocol):
    """Texts to unit vectors, [N, D]."""

    async def __call__(self, texts: Sequence[str]) -> Array: ...  # noqa: D102


T = TypeVar("T")


def layers(lm: LM) -> Iterator[object]:
    """The model and what it wraps, outermost first: wrappers keep the wrapped model in `inner`."""
    layer: object | None = lm
    while layer is not None:
        yield layer
        layer = getattr(layer, "inner", None)


def find(lm: LM, capability: type[T]) -> T | None:
    """The outermost layer of the model that has the capability, or None."""
    return next((layer for layer in layers(lm) if isinstance(layer, capability)), None)


async def aclose(lm: LM) -> None:
    """Close every layer of the model, outermost first, and also those behind one that fails to close."""
    async with AsyncExitStack() as stack:
        for layer in reversed(list(layers(lm))):
            if isinstance(layer, Closing):
                stack.push_async_callback(layer.aclose)
