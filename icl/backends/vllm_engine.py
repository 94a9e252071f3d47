"""Starting vLLM's engine in this process, and what it is given of a prompt."""

import os
from collections.abc import Mapping
from typing import Any

from templates.errors import ModelError, Unsupported
from templates.tokens import Encoded

# Engine arguments that say where and how fast, not what: all others belong to the name, and so to every cache key.
PLACEMENT = frozenset(
    {
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "distributed_executor_backend",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "block_size",
        "max_num_seqs",
        "max_num_batched_tokens",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "enable_prompt_embeds",
        "download_dir",
        "disable_log_stats",
        "use_tqdm_on_load",
    }
)
# Without a GPU vLLM would claim most of the machine's memory for its cache.
_CPU_CACHE_BYTES = 4 * 2**30


def start(model: str, revision: str | None, arguments: Mapping[str, Any]) -> Any:
    """An `AsyncLLM`.

    Args:
        model: a hub name or a folder.
        revision: of a hub model.
        arguments: vLLM's `AsyncEngineArgs`, `max_model_len` among them.

    Raises:
        Unsupported: vLLM is not installed.
        ModelError: it does not start.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # set it to see what the engine does
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # standard output is the user's
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise Unsupported(
            f"vLLM is not installed ({error}); docs/installing.md says how, with and without a GPU"
        ) from error

    args = {
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **arguments,
    }
    if current_platform.is_cpu():
        # A seeded request whose prompt is prefilled in chunks kills the CPU engine: prompts go in whole.
        args.setdefault("enable_chunked_prefill", False)
        args.setdefault("max_num_batched_tokens", max(args["max_model_len"], 8192))
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            args.setdefault("kv_cache_memory_bytes", _CPU_CACHE_BYTES)
    try:
        # Sized for throughput, as vLLM's own offline engine is: the default is sized for a server's latency.
        return AsyncLLM.from_engine_args(
            AsyncEngineArgs(model=model, revision=revision, **args), usage_context=UsageContext.LLM_CLASS
        )
    except Exception as error:
        raise ModelError(f"vLLM could not start {model!r} with {args}: {error}") from error


def engine_prompt(prompt: Encoded, dtype: Any) -> Mapping[str, Any]:
    """The prompt as the engine takes it: token ids, and where soft tokens stand, their vectors in place of embeddings.

    A prefix has placeholders in front, which the engine does not run; see `vllm_connector`.

    Args:
        prompt: T tokens, prefix included.
        dtype: of the model's activations.

    Raises:
        Unsupported: this vLLM takes token ids or vectors, not both.
    """
    before = len(prompt.prefix) if prompt.prefix else 0
    ids = [0] * before + list(prompt.ids)
    salt = {"cache_salt": prompt.prefix.digest} if prompt.prefix else {}
    if not prompt.soft:
        return {"prompt_token_ids": ids, **salt}
    import torch
    from vllm.inputs import EmbedsPrompt

    if "prompt_is_token_ids" not in EmbedsPrompt.__annotations__:
        raise Unsupported("this version of vLLM takes no soft prompts among token ids; install a newer one")
    hidden = prompt.soft[0][1].vectors.shape[1]
    vectors, plain = torch.zeros(len(ids), hidden, dtype=dtype), [True] * len(ids)  # [T, H]
    for place, soft in prompt.soft:
        places = slice(before + place, before + place + len(soft.vectors))
        vectors[places] = torch.tensor(soft.vectors, dtype=dtype)
        plain[places] = [False] * len(soft.vectors)
    return {"prompt_token_ids": ids, "prompt_embeds": vectors, "prompt_is_token_ids": plain, **salt}
