"""Prefixes on vLLM: a connector that writes trained keys and values where the engine has cached those of tokens.

A request with a prefix of P tokens begins with P placeholders. The scheduler's side of the connector reports them as
computed elsewhere, so that the engine never runs them; before the step in which the request begins, the worker's side
writes the prefix into their cache, wherever in its blocks P ends. The text after them begins at position P. Requests of
one prefix share a `cache_salt`: what the engine keeps of one is never taken for another's.

The engine's own processes load this file, through `kv_transfer_config`.

Dimensions: P prefix tokens, L layers, K heads of keys and values, D head size.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata, KVConnectorRole
from vllm.model_executor.models.utils import extract_layer_index

from icl.backends.recent import Recent
from icl.backends.vllm_prefixes import prefix_of, slots

_DEVICE = 2**28  # bytes of prefixes that each worker keeps on its device, beside the engine's own cache


@dataclass(frozen=True)
class Load:
    """Keys and values to be written.

    Args:
        prefix: its digest, the name of its file.
        first: the first of its tokens that is not in the cache yet.
        slots: places in the cache, one for each token from there on.
    """

    prefix: str
    first: int
    slots: list[int]


@dataclass
class Loads(KVConnectorMetadata):  # type: ignore[misc]  # vLLM is optional
    """What the workers are to write before the next step."""

    loads: list[Load] = field(default_factory=list)


class PrefixConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """See above. `folder` of its extra configuration has the prefixes, `{digest}.safetensors` each."""

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        if vllm_config.model_config.use_mla:
            raise ValueError("prefixes need a cache of keys and values, and this model keeps latent states instead")
        groups = kv_cache_config.kv_cache_groups
        if len(groups) != 1:
            raise ValueError(f"prefixes need one kind of cache for all layers, and this model has {len(groups)}")
        self._block = groups[0].kv_cache_spec.block_size
        self._folder = Path(vllm_config.kv_transfer_config.kv_connector_extra_config["folder"])
        self._waiting = Loads()
        self._read = Recent(self._read_from_disk, _DEVICE)

    # The scheduler's side.

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        """How much of the prefix is not in the engine's own cache, and that it is there before the step."""
        asked = prefix_of(request.kv_transfer_params)
        return (max(0, asked[1] - num_computed_tokens) if asked else 0), False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Remember which places the request's placeholders have been given; a preempted request comes again."""
        asked = prefix_of(request.kv_transfer_params)
        if asked and num_external_tokens:
            name, tokens = asked
            first = tokens - num_external_tokens
            self._waiting.loads.append(Load(name, first, slots(blocks.get_block_ids()[0], self._block, first, tokens)))

    def build_connector_meta(self, scheduler_output: Any) -> Loads:  # noqa: ARG002 - vLLM's own signature
        """What is waiting, which then waits no more."""
        waiting, self._waiting = self._waiting, Loads()
        return waiting

    # The workers' side.

    def start_load_kv(self, forward_context: Any, **_: Any) -> None:
        """Write all that waits into the cache of every layer, as the layer itself writes what it computes."""
        metadata = self._get_connector_metadata()
        if not isinstance(metadata, Loads) or not metadata.loads:
            return
        layers = {
            extract_layer_index(name): layer
            for name, layer in forward_context.no_compile_layers.items()
            if getattr(layer, "kv_cache", None) is not None and not getattr(layer, "kv_sharing_target_layer_name", None)
        }
        # Those of one prefix follow each other, so that a step reads no file twice, however many prefixes it needs.
        for load in sorted(metadata.loads, key=lambda load: load.prefix):
            both = self._read(load.prefix)
            places = torch.tensor(load.slots, dtype=torch.int64, device=both.device)
            for number, layer in layers.items():
                keys, values = both[number][:, load.first :]  # [P, K, D] each
                heads = own_heads(keys.shape[1], layer.num_kv_heads)
                layer.impl.do_kv_cache_update(
                    layer, keys[:, heads].contiguous(), values[:, heads].contiguous(), layer.kv_cache, places
                )

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing to wait for: it is written before the step."""

    def save_kv_layer(self, layer_name: str, kv_layer: Tensor, attn_metadata: Any, **_: Any) -> None:
        """Nothing is saved."""

    def wait_for_save(self) -> None:
        """Nothing is saved."""

    def _read_from_disk(self, prefix: str) -> Tensor:
        """Keys and values on the device, [L, 2, P, K, D]."""
        config = self._vllm_config
        both = load_file(self._folder / f"{prefix}.safetensors")["prefix"]
        return both.to(device=config.device_config.device, dtype=config.model_config.dtype)


def own_heads(heads: int, own: int) -> slice:
    """Which heads of keys and values this worker has, where the model is spread over several."""
    start = get_tensor_model_parallel_rank() * heads // get_tensor_model_parallel_world_size()
    return slice(start, start + own)
