"""vLLM in this process: continuous batching, prefix caching, one coroutine per request."""

import asyncio
import atexit
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

from icl.backends.label_trie import Node, cheaper_than_prompts, scores_from, trie
from icl.backends.loop_thread import LoopThread
from icl.backends.once import once
from icl.backends.soft import check
from icl.backends.tokens import configuration, context_length, load_tokenizer, room_for
from icl.backends.vllm_engine import PLACEMENT, engine_prompt, start
from icl.backends.vllm_prefixes import Prefixes
from icl.concurrency import gather
from icl.lm import Completion, Request, Score
from templates.errors import ModelError, Unsupported
from templates.identity import model_identity
from templates.prompt import Prompt
from templates.tokens import Encoded, begun, encode, split

if TYPE_CHECKING:
    from templates.soft import Base

_TEXT_ALONE = (
    "this engine was started for text alone, by a request without soft prompts, or with a kv_transfer_config of your "
    "own; say VLLM(…, soft_prompts=True)"
)


@dataclass
class VLLM:
    """A model on vLLM, on GPUs or on a CPU. The engine starts at the first request, not before.

    Requests from any event loop and thread share one engine, which lives on a thread of its own.

    Args:
        model: a hub name or a folder.
        revision: of a hub model.
        soft_prompts: start the engine ready for soft prompts and prefixes; by default it is if its first request has
            one.
        engine_args: vLLM's own `AsyncEngineArgs`: tensor_parallel_size, pipeline_parallel_size, data_parallel_size,
            max_model_len, gpu_memory_utilization, quantization, …
    """

    model: str
    revision: str | None
    soft_prompts: bool
    engine_args: Mapping[str, Any]

    def __init__(
        self, model: str, *, revision: str | None = None, soft_prompts: bool = False, **engine_args: Any
    ) -> None:
        self.model, self.revision, self.soft_prompts, self.engine_args = model, revision, soft_prompts, engine_args
        self._thread = LoopThread()
        self._engine: asyncio.Task[Any] | None = None
        self._prefixes: Prefixes | None = None
        self._ids = count()

    @cached_property
    def name(self) -> str:
        """Backend, model, and the engine arguments that may change what it says."""
        said = [f"{key}={self.engine_args[key]}" for key in sorted(self.engine_args.keys() - PLACEMENT)]
        return " ".join([f"vllm/{model_identity(self.model, self.revision)}", *said])

    async def generate(self, request: Request) -> list[Completion]:
        """The samples of the request: one engine request, so one prefill, whatever n is."""
        return await self._thread.run(self._generate(request))

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """Log-probabilities of each continuation after the prompt."""
        return await self._thread.run(self._score(prompt, continuations))

    async def count(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt; needs the tokenizer alone, not the engine."""
        return await asyncio.to_thread(lambda: [len(encode(self._tokenizer, prompt)) for prompt in prompts])

    async def context(self) -> int:
        """`max_model_len`, or else what the model's configuration says."""
        return await asyncio.to_thread(lambda: self._context)

    async def aclose(self) -> None:
        """Stop the engine and its worker processes.

        What waits for an answer fails at once, with a `ModelError`: an engine may have hours of work before it.
        """
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._thread.close(self._stop)
        atexit.unregister(self._close)

    @once
    def _tokenizer(self) -> Any:
        if "tokenizer" in self.engine_args:
            return load_tokenizer(self.engine_args["tokenizer"], self.engine_args.get("tokenizer_revision"))
        return load_tokenizer(self.model, self.revision)

    @once
    def _context(self) -> int:
        return int(self.engine_args.get("max_model_len") or context_length(self.model, self.revision))

    async def _started(self, prompt: Encoded) -> Any:
        # All requests wait for one start; a start that failed fails them all, with the same error.
        if self._engine is None:
            trained = self.soft_prompts or bool(prompt.soft or prompt.prefix)
            self._engine = asyncio.create_task(self._start(trained=trained))
            # For scripts that never close it. Registered last, so that it runs before what the engine stands on goes.
            self._engine.add_done_callback(lambda _: atexit.register(self._close))
        return await asyncio.shield(self._engine)

    async def _start(self, *, trained: bool) -> Any:
        arguments = {"max_model_len": self._context, **self.engine_args}
        if trained:
            arguments.setdefault("enable_prompt_embeds", True)
            if "kv_transfer_config" not in arguments:
                self._prefixes = Prefixes()
                arguments["kv_transfer_config"] = self._prefixes.transfer_config()
        return start(self.model, self.revision, arguments)

    async def _stop(self) -> None:
        starting, self._engine = self._engine, None
        try:
            if starting is not None and not starting.cancelled() and starting.exception() is None:
                starting.result().shutdown()
        finally:
            if self._prefixes is not None:
                self._prefixes.close()
        del starting
        gc.collect()  # the engine goes now: at the end of the interpreter its own clean-up would fail, and say so

    async def _generate(self, request: Request) -> list[Completion]:
        prompt = self._checked(encode(self._tokenizer, request.prompt))
        room = room_for(len(prompt), request.max_tokens, self._context)
        output = await self._ask(
            prompt,
            n=request.distinct,  # vLLM refuses several greedy samples
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            max_tokens=room,
            stop=list(request.stop) or None,
            seed=request.seed,
            logprobs=0 if request.logprobs else None,
            flat_logprobs=request.logprobs,
        )
        samples = sorted(output.outputs, key=lambda sample: sample.index)
        completions = [
            Completion(
                text=sample.text,
                finish="length" if sample.finish_reason == "length" else "stop",
                prompt_tokens=len(prompt),
                cached_tokens=output.num_cached_tokens or 0,
                tokens=len(sample.token_ids),
                logprob=sample.cumulative_logprob if request.logprobs else None,
            )
            for sample in samples
        ]
        return completions * (request.n // request.distinct)

    async def _score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        if not continuations:
            return []
        splits = [split(self._tokenizer, prompt, continuation) for continuation in continuations]
        context, targets = self._checked(splits[0][0]), [tuple(continuation) for _, continuation in splits]
        for target in targets:
            room_for(len(context) + len(target) - 1, 1, self._context)
        nodes = trie(targets)
        # vLLM tells no log-probabilities of prompts that have soft tokens, and runs prefixes to have them.
        if context.soft or context.prefix or cheaper_than_prompts(len(context), targets, nodes):
            values = await gather(lambda node: self._score_node(context, node), nodes)
            return scores_from(targets, nodes, values)
        return await gather(lambda target: self._score_prompt(context, target), targets)

    async def _score_node(self, context: Encoded, node: Node) -> dict[int, float]:
        """The log-probabilities of the tokens that may follow the node, read off one generated token."""
        output = await self._ask(
            context.followed_by(node.prefix), max_tokens=1, temperature=0.0, logprob_token_ids=list(node.following)
        )
        read = output.outputs[0].logprobs[0]
        return {token: read[token].logprob for token in node.following}

    async def _score_prompt(self, context: Encoded, target: tuple[int, ...]) -> Score:
        """The log-probabilities of the prompt's last tokens; this cannot use the prefix cache."""
        output = await self._ask(context.followed_by(target), max_tokens=1, temperature=0.0, prompt_logprobs=0)
        read = output.prompt_logprobs[-len(target) :]
        return Score(tuple(row[token].logprob for row, token in zip(read, target, strict=True)))

    def _checked(self, prompt: Encoded) -> Encoded:
        """The prompt, which begins, and whose trained parts are for this model."""
        for soft in (*(soft for _, soft in prompt.soft), *([prompt.prefix] if prompt.prefix else [])):
            check(soft, self._base)
        begun(prompt.ids, self.model)
        return prompt

    @once
    def _base(self) -> "Base":
        from templates.soft import base_of

        return base_of(self.model, configuration(self.model, self.revision), self.revision)

    async def _ask(self, prompt: Encoded, **sampling: Any) -> Any:
        engine = await self._started(prompt)
        if prompt.soft and not engine.vllm_config.model_config.enable_prompt_embeds:
            raise Unsupported(_TEXT_ALONE)
        if prompt.prefix is None:
            return await self._answer(engine, prompt, sampling)
        if self._prefixes is None:
            raise Unsupported(_TEXT_ALONE)
        with self._prefixes.kept(prompt.prefix) as asked:
            return await self._answer(engine, prompt, {**sampling, "extra_args": {"kv_transfer_params": asked}})

    async def _answer(self, engine: Any, prompt: Encoded, sampling: Mapping[str, Any]) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        dtype = engine.vllm_config.model_config.dtype
        params = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, skip_clone=True, **sampling)
        try:
            async for output in engine.generate(engine_prompt(prompt, dtype), params, str(next(self._ids))):
                if output.finished:
                    return output
        except ValueError as error:
            raise ModelError(f"vLLM refused a request of {len(prompt)} prompt tokens: {error}") from error
        except (EngineDeadError, EngineGenerateError) as error:
            raise ModelError(f"vLLM failed at a request of {len(prompt)} prompt tokens: {error!r}") from error
        raise ModelError(f"vLLM ended a request of {len(prompt)} prompt tokens without an answer")
