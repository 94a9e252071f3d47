"""Hugging Face transformers in this process: for machines where vLLM does not run, and as the reference for it."""

import asyncio
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from inspect import signature
from typing import Any

from icl.backends.attention import Windows, sees_everything, windows_of
from icl.backends.batching import Job, Limits, Share, Worker
from icl.backends.decoding import Generation, decode
from icl.backends.once import once
from icl.backends.scoring import Scoring, score
from icl.backends.soft import check
from icl.backends.tokens import context_length, load_tokenizer, room_for, unloadable
from icl.lm import Completion, Request, Score
from templates.errors import ICLError, ModelError, Unsupported, UserError
from templates.identity import model_identity
from templates.prompt import Prompt, soft_prompts
from templates.tokens import Encoded, begun, encode, split

DTYPES = ("auto", "float32", "bfloat16", "float16")
_OUTPUTS = 2**27  # numbers in the distributions over the vocabulary that are there at once: 0.5 GiB in float32


@dataclass(eq=False)
class Transformers:
    """A model on transformers. It is loaded at the first request, not before; counting needs its tokenizer alone.

    Requests that wait, from any event loop, are run together on one thread. What a request yields does not depend on
    its company, up to the rounding of sums: next to nothing in float32, while in 16 bits a close choice may turn.

    Args:
        model: a hub name or a folder.
        dtype: of weights and activations: "auto" (as the weights are stored), "float32", "bfloat16" or "float16".
        device: such as "cuda:1"; by default the first GPU where there is one, else the CPU.
        revision: of a hub model.
        max_model_len: tokens that prompt and completion may have together, where less than the model's own.
        max_batch_tokens: prompt tokens that are computed at once.
        kv_cache_gib: memory for the keys and values of a batch, in GiB.
    """

    model: str
    _: KW_ONLY
    dtype: str = "auto"
    device: str | None = None
    revision: str | None = None
    max_model_len: int | None = None
    max_batch_tokens: int = 8192
    kv_cache_gib: float = 4.0

    def __post_init__(self) -> None:
        """Refuse limits in which nothing fits."""
        if self.max_batch_tokens < 1 or self.kv_cache_gib <= 0 or self.max_model_len == 0:
            raise UserError(
                f"a model needs max_batch_tokens ≥ 1, kv_cache_gib > 0 and max_model_len ≥ 1, got "
                f"{self.max_batch_tokens}, {self.kv_cache_gib} and {self.max_model_len}"
            )
        if self.dtype not in DTYPES:
            raise UserError(f"dtype is one of {', '.join(DTYPES)}, got {self.dtype!r}")
        self._worker = Worker(self._limits)

    @cached_property
    def name(self) -> str:
        """Backend, model, dtype, and where completions are cut if that is not the model's own context."""
        cut = f" max_model_len={self.max_model_len}" if self.max_model_len else ""
        return f"transformers/{model_identity(self.model, self.revision)} dtype={self.dtype}{cut}"

    async def generate(self, request: Request) -> list[Completion]:
        """The samples of the request: one prefill, whatever n is, and one for all that ask with the same prompt."""
        completions = await self._run(Job(partial(self._generation, request), self._decode))
        return completions * (request.n // len(completions))

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """Log-probabilities of each continuation after the prompt."""
        if not continuations:
            return []
        return await self._run(Job(partial(self._scoring, prompt, continuations), self._score))

    async def count(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt."""
        return await asyncio.to_thread(lambda: [len(encode(self._tokenizer, prompt)) for prompt in prompts])

    async def context(self) -> int:
        """`max_model_len`, or else what the model's configuration says."""
        return await asyncio.to_thread(lambda: self._context)

    async def aclose(self) -> None:
        """Finish what waits, then let go of the model."""
        await self._worker.aclose()
        self.__dict__.pop("_model", None)

    async def _run(self, job: Job) -> list[Any]:
        try:
            return await self._worker.submit(job)
        except ICLError:
            raise
        except Exception as error:  # torch's, of a batch: all its requests get it
            raise ModelError(f"{self.name} failed: {error!r}") from error

    # What follows runs on the worker's thread; `count` and `context` need tokenizer and context length besides.

    @once
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.model, self.revision)

    @once
    def _context(self) -> int:
        return self.max_model_len or context_length(self.model, self.revision)

    @once
    def _model(self) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model = AutoModelForCausalLM.from_pretrained(self.model, revision=self.revision, dtype=self.dtype)
        except (OSError, ValueError) as error:
            raise unloadable("model", self.model, error) from error
        if "position_ids" not in signature(model.forward).parameters:
            raise Unsupported(
                f"{self.model!r} is a {model.config.model_type} model, which takes no position numbers, so that its "
                f"prompts cannot be padded; run it on VLLM"
            )
        return model.to(device).eval()

    @cached_property
    def _ends(self) -> frozenset[int]:
        """The tokens that end a completion: those that the model's generation settings name, and the tokenizer's."""
        named = self._model.generation_config.eos_token_id
        return frozenset([*(named if isinstance(named, list) else [named]), self._tokenizer.eos_token_id]) - {None}

    @cached_property
    def _windows(self) -> Windows | None:
        return windows_of(self._model)

    def _limits(self) -> Limits:
        base = self._base
        token = 2 * base.layers * base.kv_heads * base.head_size * self._model.dtype.itemsize
        return Limits(
            prompt=self.max_batch_tokens,
            cache=int(self.kv_cache_gib * 2**30) // token,
            outputs=_OUTPUTS // self._model.config.get_text_config().vocab_size,
        )

    def _generation(self, request: Request) -> Generation:
        self._check(request.prompt)
        prompt = encode(self._tokenizer, request.prompt)
        begun(prompt.ids, self.model)
        room = room_for(len(prompt), request.max_tokens, self._context)
        return Generation(request, prompt, room, packed=sees_everything(self._windows))

    def _scoring(self, prompt: Prompt, continuations: Sequence[str]) -> Scoring:
        self._check(prompt)
        splits = [split(self._tokenizer, prompt, continuation) for continuation in continuations]
        context = splits[0][0]
        self._check_prefix(context)
        for _, continuation in splits:
            room_for(len(context) + len(continuation) - 1, 1, self._context)
        return Scoring(context, [continuation for _, continuation in splits], packed=self._windows is not None)

    def _check(self, prompt: Prompt) -> None:
        """Refuse soft prompts that were trained for another model, or are not as wide as this one's embeddings."""
        for soft in soft_prompts(prompt):
            check(soft, self._steered)

    def _check_prefix(self, context: Encoded) -> None:
        """Refuse prefixes where scoring would need a mask that is not ours to make."""
        if context.prefix and (
            self._windows is None
            or any(window is not None and window <= len(context.prefix) for window in self._windows.values())
        ):
            raise Unsupported(
                f"scoring behind a prefix of {len(context.prefix)} tokens needs attention that sees all of it, and "
                f"{self.model!r} has layers that do not; generate instead, or take a shorter prefix"
            )

    @cached_property
    def _base(self) -> Any:
        from templates.soft import base_of

        return base_of(self.model, self._model.config, self.revision)

    @cached_property
    def _steered(self) -> Any:
        """The model as one that takes soft prompts; see `check_embeddings`."""
        from templates.soft.families import check_embeddings

        check_embeddings(self._model)
        return self._base

    def _decode(self, shares: Sequence[Share]) -> list[list[Completion]]:
        return decode(self._model, self._windows, self._tokenizer, self._ends, shares)

    def _score(self, shares: Sequence[Share]) -> list[list[Score]]:
        return score(self._model, self._windows or {}, shares)
