"""What a soft prompt begins with; this moves its result more than anything else does (Lester et al. 2021, section 3.2).

Dimensions: P soft tokens, H hidden, L layers, K heads of keys and values, D head size.
"""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from templates.errors import UserError
from templates.template import Template

if TYPE_CHECKING:
    from torch import Tensor

    from templates.soft.frozen import Frozen

Init = Literal["labels", "vocabulary", "text", "uniform"]
PrefixInit = Literal["text", "vocabulary", "random", "zero"]

_COMMON = 5000  # tokens that are sampled from: in most tokenizers the first ones are the most common
_WIDTH = 0.5  # of the uniform distribution, on either side


def words(frozen: "Frozen", template: Template, tokens: int, init: Init, text: str, seed: int) -> "Tensor":
    """Vectors [P, H] for the soft tokens to begin with.

    Args:
        frozen: the model.
        template: whose verbalizer has the labels.
        tokens: P.
        init: "labels": the words that stand for labels, each the mean of its tokens, then as "vocabulary"; where there
            are no labels, all of it. "vocabulary": as many as are wanted of the vocabulary's 5,000 first tokens, in
            most tokenizers the most common ones. "text": the text's first tokens, of a shorter text again and again.
            "uniform": each number between -0.5 and 0.5, for comparison.
        text: for "text".
        seed: of what is drawn.
    """
    import torch

    if init == "uniform":
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(tokens, frozen.embeddings.shape[1], generator=generator) * 2 - 1) * _WIDTH
    if init == "text":
        ids = text_ids(frozen.tokenizer, text)
        chosen = [[ids[place % len(ids)]] for place in range(tokens)]
    else:
        chosen = _labels(frozen.tokenizer, template)[:tokens] if init == "labels" else []
        chosen += [[token] for token in sampled(frozen, tokens - len(chosen), seed)]
    embed = frozen.model.get_input_embeddings()
    with torch.no_grad():
        return torch.stack([embed(torch.tensor(ids, device=frozen.device)).float().mean(0) for ids in chosen]).cpu()


def sampled(frozen: "Frozen", tokens: int, seed: int) -> list[int]:
    """So many of the 5,000 first tokens, special ones left out."""
    special = set(frozen.tokenizer.all_special_ids)
    common = [token for token in range(min(_COMMON, len(frozen.tokenizer))) if token not in special]
    return Random(f"{seed}/vocabulary").choices(common, k=tokens)


def text_ids(tokenizer: Any, text: str) -> Sequence[int]:
    """The text's tokens, without special ones.

    Raises:
        UserError: there is no text.
    """
    ids: Sequence[int] = tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        raise UserError("to begin with a text, give one: --text, or init='text', text='Classify the review:'")
    return ids


def keys_and_values(frozen: "Frozen", tokens: int, init: PrefixInit, text: str, seed: int) -> "Tensor":
    """Keys and values [P, L·2·K·D] for a prefix to begin with.

    Args:
        frozen: the model.
        tokens: P.
        init: "text": those that the model has for the text's first tokens, of a shorter text again and again;
            "vocabulary": for sampled words; "random" and "zero", for comparison.
        text: for "text".
        seed: of what is drawn.
    """
    import torch

    base = frozen.base
    if init in {"text", "vocabulary"}:
        ids = text_ids(frozen.tokenizer, text) if init == "text" else sampled(frozen, tokens, seed)
        return activations(frozen, [ids[place % len(ids)] for place in range(tokens)])
    shape = (tokens, base.layers * 2 * base.kv_heads * base.head_size)
    if init == "zero":
        return torch.zeros(shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def activations(frozen: "Frozen", ids: Sequence[int]) -> "Tensor":
    """Keys and values that the model has for these tokens, [P, L·2·K·D] (Li & Liang 2021, section 7.4)."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=frozen.model.config)
    with torch.no_grad():
        frozen.model(input_ids=torch.tensor([ids], device=frozen.device), past_key_values=cache, use_cache=True)
    kept = {layer.keys.shape[2] for layer in cache.layers}
    if kept != {len(ids)}:
        raise UserError(
            f"a prefix of {len(ids)} tokens is longer than a window of attention, which keeps {min(kept)}; take fewer"
        )
    layers = [torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers]  # [2, K, P, D] each
    return torch.stack(layers).permute(3, 0, 1, 2, 4).flatten(1).float().cpu()


def _labels(tokenizer: Any, template: Template) -> list[list[int]]:
    shown = [its[0] for its in template.verbalizer.words.values()] if template.verbalizer else []
    return [tokenizer.encode(f" {word}", add_special_tokens=False) for word in shown]
