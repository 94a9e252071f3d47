"""The next token, drawn from the model's distribution: temperature, then top-k, then top-p, as vLLM applies them."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def filtered(logits: "Tensor", temperature: float, top_k: int, top_p: float) -> "Tensor":
    """The logits of the distribution that is sampled: divided by the temperature, -inf where filtered out.

    Top-k keeps the tokens at least as likely as the k-th. Of what is left, renormalised, top-p keeps the fewest most
    likely tokens that have probability p together, and tokens as likely as the last of them.

    Args:
        logits: [B, V].
        temperature: above zero.
        top_k: 0 keeps all.
        top_p: in (0, 1]; 1 keeps all.
    Returns:
        [B, V].
    """
    logits = logits / temperature
    vocabulary = logits.shape[-1]
    if 0 < top_k < vocabulary:
        least = logits.topk(top_k).values[:, -1:]  # [B, 1]
        logits = logits.masked_fill(logits < least, -float("inf"))
    if top_p < 1:
        # Ties with the k-th token make more than k, so the nucleus is sought among all.
        ranked = logits.sort(descending=True).values  # [B, V]
        chances = ranked.softmax(-1)
        outside = chances.cumsum(-1) - chances >= top_p  # those before it have p already
        least = ranked.masked_fill(outside, float("inf")).amin(-1, keepdim=True)  # [B, 1]
        logits = logits.masked_fill(logits < least, -float("inf"))
    return logits


def drawn(logits: "Tensor", uniforms: np.ndarray) -> "Tensor":
    """One token per row: the first at which the cumulative probability exceeds the row's uniform number.

    A row's token depends on nothing but its own logits and number, so a sample is the same in every batch.

    Args:
        logits: [B, V], -inf where filtered out.
        uniforms: [B] in [0, 1).
    Returns:
        [B] token ids.
    """
    import torch

    # Sums of many small numbers: in float32 their error would move the borders between tokens.
    cumulative = logits.double().softmax(-1).cumsum(-1)  # [B, V]
    at = torch.from_numpy(uniforms).to(logits.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, at, right=True)[:, 0]
