"""Keys and values of what stands before rows: read once, and given to each of them."""

from inspect import signature
from typing import Any

import torch

from templates.soft.recompute import once


def goes_on(model: Any) -> bool:
    """Whether a causal model says the same behind keys and values of what it has read as in one go: found out.

    Some keep states besides or instead, some count positions from anew, some make no mask behind a cache.

    Args:
        model: of transformers, in evaluation mode.
    """
    from transformers import DynamicCache

    if "past_key_values" not in signature(model.forward).parameters or _turns_by_length(model.config):
        return False
    table = model.get_input_embeddings()
    word = len(table.weight) // 2  # no special token
    ids = torch.tensor([[0, 1, 2, 3], [0, 1, 3, 2]], device=table.weight.device) + word
    with torch.no_grad(), once(model):
        whole = model(inputs_embeds=table(ids), use_cache=False)[0]  # embeddings anew for each run: some change them
        cache = DynamicCache()
        try:
            model(inputs_embeds=table(ids[:1, :2]), past_key_values=cache, use_cache=True)
            behind = model(inputs_embeds=table(ids[:, 2:]), past_key_values=spread(cache, 2), use_cache=False)[0]
        except Exception:  # noqa: BLE001 - in whichever way it fails: it is run in one go
            return False
    apart = max(1e-3, 4 * torch.finfo(whole.dtype).eps) * whole.nan_to_num().abs().max().item()
    return torch.allclose(whole[:, 2:], behind, rtol=0, atol=apart, equal_nan=True)


def _turns_by_length(config: Any) -> bool:
    """Whether rotary positions are others in long texts (LongRoPE), where a few tokens do not show it."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return "longrope" in str(rope)


def spread(cache: Any, rows: int) -> Any:
    """The keys and values of one row, for so many rows.

    Args:
        cache: of transformers.
        rows: how many.
    """
    from transformers import DynamicCache

    found = DynamicCache()
    for number, layer in enumerate(cache.layers):
        found.update(*(part.expand(rows, -1, -1, -1) for part in (layer.keys, layer.values)), number)
    return found
