"""What a model's attention takes: how far back its layers look, and masks of our own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Windows = Mapping[str, int | None]


def windows_of(model: Any) -> Windows | None:
    """For each kind of attention layer how far back it sees, None for all the way.

    The answer is None where a mask of ours would not do, so that continuations cannot be packed: layers that keep a
    state instead of attending, and attention that takes no mask.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    config = model.config.get_text_config(decoder=True)
    known = {DynamicLayer: "full_attention", DynamicSlidingWindowLayer: "sliding_attention"}
    layers = DynamicCache(config=config).layers
    maskable = model.config._attn_implementation in {"sdpa", "eager"}  # noqa: SLF001 - it has no public name
    chunked = getattr(config, "attention_chunk_size", None) is not None
    if not layers or not maskable or chunked or any(type(layer) not in known for layer in layers):
        return None
    return {known[type(layer)]: getattr(layer, "sliding_window", None) for layer in layers}


def sees_everything(windows: Windows | None) -> bool:
    """Whether all layers look all the way back, and take a mask of ours."""
    return windows is not None and all(window is None for window in windows.values())


def blocked(seen: "Tensor", dtype: Any) -> "Tensor":
    """The mask that is added to attention scores.

    Args:
        seen: [R, T, C] bool: what each token may look at.
        dtype: of the model.
    Returns:
        [R, 1, T, C], for all heads.
    """
    import torch

    nothing = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return nothing.masked_fill(~seen, torch.finfo(dtype).min)[:, None]
