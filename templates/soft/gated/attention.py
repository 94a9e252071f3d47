"""What an adapter does in a model's layers.

Dimensions: B rows, T tokens, M adapted layers, P soft tokens, H hidden, A heads of attention, K heads of keys and
values, D head size.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from templates.errors import Unsupported
from templates.soft.base import base_of
from templates.soft.gated.value import GatedPrompt

KNOWN = ("llama", "mistral", "qwen2", "qwen3")  # attention with q_proj, k_proj, v_proj and o_proj, as Llama's


@contextmanager
def applied(adapter: GatedPrompt, model: Any) -> Iterator[Any]:
    """Within, the model speaks with the adapter, generating too; afterwards all is as it was.

    Args:
        adapter: what was trained.
        model: a causal model of transformers; see `KNOWN`.

    Raises:
        UserError: another model than the one it was trained for.
        Unsupported: a model whose attention is another.
    """
    adapter.base.check(base_of(model.name_or_path, model.config))
    prompts, gates = (torch.tensor(part, device=model.device) for part in (adapter.prompts, adapter.gates))
    with attending(model, prompts, gates):
        yield model


@contextmanager
def attending(model: Any, prompts: Tensor, gates: Tensor) -> Iterator[None]:
    """Within, the topmost layers attend to their prompts too; gradients go to both tensors.

    Args:
        model: see `applied`.
        prompts: [M, P, H].
        gates: [M, 1] or [M, A].
    """
    layers = attentions(model)[-len(prompts) :]
    with ExitStack() as afterwards:
        for attention, prompt, gate in zip(layers, prompts, gates, strict=True):
            for handle in _hooked(attention, prompt, gate):
                afterwards.callback(handle.remove)
        yield


def gated(queries: Tensor, keys: Tensor, values: Tensor, gate: Tensor, scaling: float) -> Tensor:
    """What a prompt adds to attention: gate · softmax(queries · keys · scaling) · values, in the order of heads.

    Args:
        queries: [B, A, T, D].
        keys: [K, P, D]; each of its heads is for A/K heads of queries.
        values: [K, P, D].
        gate: [1] or [A].
        scaling: of scores.
    Returns:
        [B, T, A·D].
    Source: Zhang et al. 2023, section 3.2; PEFT's AdaptedAttention with a gate for each layer.
    """
    shared = queries.shape[1] // len(keys)
    keys, values = (part.repeat_interleave(shared, 0) for part in (keys, values))  # [A, P, D]
    scores = queries @ keys.transpose(1, 2) * scaling  # [B, A, T, P]
    weights = gate[:, None, None] * scores.softmax(-1, dtype=torch.float32)
    return (weights.to(values.dtype) @ values).transpose(1, 2).flatten(2)


def attentions(model: Any) -> Sequence[Any]:
    """The model's attention modules, from the lowest layer up.

    Raises:
        Unsupported: a model of another kind.
    """
    if model.config.model_type not in KNOWN:
        raise Unsupported(
            f"{model.name_or_path!r} is a {model.config.model_type} model, and LLaMA-Adapter is known for "
            f"{', '.join(KNOWN)}; take prefix-tuning or p-tuning-v2, which any causal model has"
        )
    return [layer.self_attn for layer in model.base_model.layers]


def _hooked(attention: Any, prompt: Tensor, gate: Tensor) -> Iterator[Any]:
    """Handles of hooks that add what the prompt says to the input of the layer's output projection.

    Queries are the layer's own, turned by their positions; the prompt has none, and its keys are not turned.
    """
    kept: dict[str, Any] = {}
    weight = attention.k_proj.weight

    def headed(projected: Tensor, norm: str) -> Tensor:
        shaped = projected.view(*projected.shape[:-1], -1, attention.head_dim)
        normed: Tensor = getattr(attention, norm)(shaped) if hasattr(attention, norm) else shaped
        return normed.transpose(-3, -2)  # heads before tokens

    def begin(_: Any, __: Any, named: dict[str, Any]) -> None:
        kept["turns"] = named["position_embeddings"]

    def see(_: Any, __: Any, projected: Tensor) -> None:
        kept["queries"] = projected

    def add(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        queries = headed(kept.pop("queries"), "q_norm")  # [B, A, T, D]
        turned, _keys = sys.modules[type(attention).__module__].apply_rotary_pos_emb(
            queries, queries[:, :0], *kept.pop("turns")
        )
        asked = prompt.to(weight)
        keys, values = headed(attention.k_proj(asked), "k_norm"), headed(attention.v_proj(asked), "")  # [K, P, D]
        return (inputs[0] + gated(turned, keys, values, gate, attention.scaling).to(inputs[0]),)

    yield attention.register_forward_pre_hook(begin, with_kwargs=True)
    yield attention.q_proj.register_forward_hook(see)
    yield attention.o_proj.register_forward_pre_hook(add)
