"""Soft prompts and prefixes in the rows of a batch, on a transformers model.

Dimensions: R rows, T tokens, P prefix tokens, H hidden, L layers, K heads of keys and values, D head size.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from templates.errors import UserError
from templates.prompt import Soft

if TYPE_CHECKING:
    from torch import Tensor

    from templates.soft import Base, Prefix


def check(soft: Soft, base: "Base") -> None:
    """Refuse a soft prompt that was trained for another model, or that this one has no room for.

    Raises:
        UserError: see `Base.check`.
    """
    if made_for := getattr(soft, "base", None):
        made_for.check(base)
    elif soft.vectors.shape[1] != base.hidden:
        raise UserError(
            f"a soft prompt for {base.name!r} has vectors of {base.hidden} numbers, and {soft.digest[:8]} has "
            f"{soft.vectors.shape[1]}"
        )


def inputs(
    model: Any, rows: Sequence[Sequence[int]], soft: Sequence[Sequence[tuple[int, Soft]]]
) -> dict[str, "Tensor"]:
    """What the model is given of the rows' tokens: their ids, or where a row has soft prompts, embeddings of them all.

    Args:
        model: a causal language model.
        rows: token ids, R rows; shorter ones are padded on the left.
        soft: for each row its soft prompts, each with the place of its first token in the row.
    """
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=model.device)
    if not any(soft):
        return {"input_ids": ids}
    embedded = model.get_input_embeddings()(ids)  # [R, T, H]
    known = {prompt.digest: prompt for own in soft for _, prompt in own}
    vectors = {digest: torch.tensor(prompt.vectors).to(embedded) for digest, prompt in known.items()}
    for number, (row, own) in enumerate(zip(rows, soft, strict=True)):
        for place, prompt in own:
            start = longest - len(row) + place
            embedded[number, start : start + len(prompt.vectors)] = vectors[prompt.digest]
    return {"inputs_embeds": embedded}


def prefixes(model: Any, rows: "Sequence[Prefix | None]") -> tuple[Any, "Tensor"]:
    """A cache that holds each row's prefix, and its mask, [R, P], P the longest prefix's length.

    A prefix that several rows share is brought into the model's numbers once.
    """
    import torch
    from transformers import DynamicCache

    longest = max(len(prefix) if prefix else 0 for prefix in rows)
    cache = DynamicCache(config=model.config)
    mask = torch.zeros(len(rows), longest, dtype=torch.long, device=model.device)
    if longest == 0:
        return cache, mask
    known = list(dict.fromkeys(prefix for prefix in rows if prefix))  # each once; all zero stands behind them
    layers, heads, _, width = known[0].keys.shape
    both = torch.zeros(2, layers, len(known) + 1, heads, longest, width, dtype=model.dtype, device=model.device)
    for number, one in enumerate(known):
        for part, values in zip(both, (one.keys, one.values), strict=True):
            part[:, number, :, longest - len(one) :] = torch.tensor(values).to(part)
    for number, prefix in enumerate(rows):
        if prefix:
            mask[number, longest - len(prefix) :] = 1
    own = torch.tensor([known.index(prefix) if prefix else len(known) for prefix in rows], device=model.device)
    for layer, (keys, values) in enumerate(zip(*both, strict=True)):
        cache.update(keys[own], values[own], layer)
    return cache, mask
