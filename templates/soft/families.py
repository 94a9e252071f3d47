"""Which kind of model it is decides how rows, batches and losses are made."""

from typing import Any

from templates.soft.frozen import Frozen


def frozen_of(model: Any, tokenizer: Any) -> Frozen:
    """The model as what stays as it is in training.

    Args:
        model: as transformers loads it.
        tokenizer: its own.
    """
    return Frozen(model, tokenizer)


def loader_of(config: Any) -> Any:
    """The class of transformers that loads a model of this configuration with its output layer."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if getattr(config, "is_encoder_decoder", False) else AutoModelForCausalLM
