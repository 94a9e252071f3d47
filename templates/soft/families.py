"""Which kind of model it is decides how rows, batches and losses are made."""

from typing import Any

import torch

from templates.errors import Unsupported, UserError
from templates.soft.encoder_decoder import EncoderDecoder
from templates.soft.frozen import Frozen
from templates.soft.masked import Masked


def frozen_of(model: Any, tokenizer: Any) -> Frozen:
    """The model as what stays as it is in training.

    Args:
        model: as transformers loads it.
        tokenizer: its own.

    Raises:
        UserError: a model that says no words, or of a kind that prompts are not trained for here.
        Unsupported: see `check_embeddings`; or one that is loaded as causal, and looks ahead.
    """
    kind: type[Frozen]
    names = [kind.__name__ for kind in type(model).__mro__]
    if any(name.endswith("ForMaskedLM") for name in names):
        kind = Masked
    elif model.can_generate():
        kind = EncoderDecoder if model.config.is_encoder_decoder else Frozen
    else:
        raise UserError(
            f"prompts are trained for language models, and {model.name_or_path!r} is a {names[0]}; load it with "
            "AutoModelForCausalLM, AutoModelForSeq2SeqLM or AutoModelForMaskedLM"
        )
    frozen = kind(model, tokenizer)
    with frozen.held():
        check_embeddings(model)
        if kind is Frozen and not causal(model):
            raise Unsupported(
                f"{model.name_or_path!r} ({model.config.model_type}) is loaded as a causal model, and its tokens see "
                "those behind them; load it with is_decoder=True, or with AutoModelForMaskedLM"
            )
    return frozen


def causal(model: Any) -> bool:
    """Whether what is made of a token stays as it is, whatever comes behind it: found out, as few models say so.

    Args:
        model: in evaluation mode, with an output layer or without.
    """
    table = model.get_input_embeddings().weight
    word = len(table) // 2  # no special token
    rows = torch.tensor([[word, word + 1], [word, word + 2]], device=table.device)
    with torch.no_grad():
        one, other = model(input_ids=rows)[0][:, 0]
    apart = (
        max(1e-5, 4 * torch.finfo(one.dtype).eps) * one.nan_to_num().abs().max().item()
    )  # rounding may differ by row
    return torch.allclose(one, other, rtol=0, atol=apart, equal_nan=True)


def check_embeddings(model: Any) -> None:
    """Refuse a model that does more with tokens than look up their embeddings, and so reads soft tokens otherwise.

    Some scale what they have looked up, and leave embeddings that they are given as they are.

    Args:
        model: in evaluation mode.

    Raises:
        Unsupported: it says one thing of tokens, and another of their embeddings.
    """
    reader = model.get_encoder() if model.config.is_encoder_decoder else model
    table = model.get_input_embeddings()
    ids = torch.arange(4, device=table.weight.device)[None] + len(table.weight) // 2  # words, no special tokens
    with torch.no_grad():
        read, given = reader(input_ids=ids)[0], reader(inputs_embeds=table(ids))[0]
        try:
            reader(inputs_embeds=table(ids) / 2)  # no token's
        except RuntimeError as error:
            raise Unsupported(
                f"{model.name_or_path!r} ({model.config.model_type}) reads embeddings of tokens alone, and soft tokens "
                f"are none: {error}; take another model"
            ) from error
    size = read.nan_to_num().abs().max().item()
    if not torch.allclose(read, given, atol=1e-3 * size, equal_nan=True):
        raise Unsupported(
            f"{model.name_or_path!r} ({model.config.model_type}) reads embeddings that it is given otherwise than "
            "those of tokens, which it scales; no soft prompt stands among its tokens here: take another model"
        )


def loader_of(config: Any) -> Any:
    """The class of transformers that loads a model of this configuration with its output layer."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    if any(name.endswith("ForMaskedLM") for name in getattr(config, "architectures", None) or ()):
        return AutoModelForMaskedLM
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
