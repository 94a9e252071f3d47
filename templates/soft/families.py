"""Which kind of model it is decides how rows, batches and losses are made."""

from typing import Any

from templates.errors import UserError
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
    """
    names = [kind.__name__ for kind in type(model).__mro__]
    if any(name.endswith("ForMaskedLM") for name in names):
        return Masked(model, tokenizer)
    if model.can_generate():
        return EncoderDecoder(model, tokenizer) if model.config.is_encoder_decoder else Frozen(model, tokenizer)
    raise UserError(
        f"prompts are trained for language models, and {model.name_or_path!r} is a {names[0]}; load it with "
        "AutoModelForCausalLM, AutoModelForSeq2SeqLM or AutoModelForMaskedLM"
    )


def loader_of(config: Any) -> Any:
    """The class of transformers that loads a model of this configuration with its output layer."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    if any(name.endswith("ForMaskedLM") for name in getattr(config, "architectures", None) or ()):
        return AutoModelForMaskedLM
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
