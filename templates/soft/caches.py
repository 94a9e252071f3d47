"""Keys and values of what stands before rows: read once, and given to each of them."""

from inspect import signature
from typing import Any


def keeps_all(model: Any, *, prefix: bool) -> bool:
    """Whether a causal model can be given the keys and values of all tokens that it has read, and needs no more.

    One that runs layers again for gradients keeps none.

    Args:
        model: of transformers.
        prefix: whether there is one, of which windows keep what they see alone.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    if "past_key_values" not in signature(model.forward).parameters or model.is_gradient_checkpointing:
        return False
    good = {DynamicLayer} if prefix else {DynamicLayer, DynamicSlidingWindowLayer}
    return {type(layer) for layer in DynamicCache(config=model.config).layers} <= good


def spread(cache: Any, rows: int) -> Any:
    """The keys and values of one row, for so many rows.

    Args:
        cache: of transformers, of layers that keep all; see `keeps_all`.
        rows: how many.
    """
    from transformers import DynamicCache

    found = DynamicCache()
    for number, layer in enumerate(cache.layers):
        found.update(*(part.expand(rows, -1, -1, -1) for part in (layer.keys, layer.values)), number)
    return found
