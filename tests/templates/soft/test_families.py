"""Which models prompts are trained for."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from templates import Template
from templates.errors import Unsupported
from templates.soft import PTuningV2, train
from templates.soft.encoder_decoder import EncoderDecoder
from templates.soft.families import frozen_of
from templates.soft.frozen import Frozen
from templates.soft.heads import train_classifier
from tests.shapes import GROUPED, PAIRS, SCALED
from tests.templates.soft.few import some


def small(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize("kind", ["marian", "pegasus", "falcon_h1"])
def test_models_that_scale_embeddings_of_tokens_alone_are_refused(kind: str) -> None:
    """Marian and Pegasus by a root, Falcon-H1 by a factor; soft tokens among theirs would be too small."""
    if kind == "falcon_h1":
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **small(SCALED[kind])))
    else:
        pair = small(PAIRS["bart"]) | {"scale_embedding": True, "decoder_start_token_id": 0}
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **pair))
    with pytest.raises(Unsupported, match=f"{kind}.* scales.*take another model"):
        frozen_of(model, None)
    assert model.training, "it stays as it was"


def test_models_whose_embeddings_scale_by_themselves_are_taken() -> None:
    """BART's table of embeddings scales what it gives."""
    pair = small(PAIRS["bart"]) | {"scale_embedding": True, "decoder_start_token_id": 0}
    frozen = frozen_of(AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model("bart", **pair)), None)
    assert type(frozen) is EncoderDecoder


LOOKING = {
    "bert": small(GROUPED),
    "gemma2": small(GROUPED | {"use_bidirectional_attention": True}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", LOOKING)
def test_models_that_look_ahead_are_no_causal_ones(kind: str, dtype: torch.dtype) -> None:
    """BERT that is loaded with a causal output layer, and says nothing of a decoder: rows would see their filling."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **LOOKING[kind])).to(dtype)
    with pytest.raises(Unsupported, match=f"{kind}.* see those behind them; load it with is_decoder=True"):
        frozen_of(model, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_causal_models_are_taken(kind: str, dtype: torch.dtype) -> None:
    """In 16 bits too, and where each token has experts of its own."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **small(GROUPED))).to(dtype)
    assert type(frozen_of(model, None)) is Frozen


OTHER_CACHES = {
    "falcon": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "multi_query": True},
    "openai-gpt": {"n_embd": 64, "n_layer": 2, "n_head": 4},
}


@pytest.mark.parametrize("kind", OTHER_CACHES)
def test_prefixes_for_another_cache_are_refused(kind: str, tokenizer: Any) -> None:
    """Falcon's heads share one pair of keys and values, which its configuration does not count; GPT keeps no cache."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **small(OTHER_CACHES[kind])))
    for loop in (train, train_classifier):
        with pytest.raises(Unsupported, match=r"keys and values .* use PromptTuning or PTuning"):
            loop(PTuningV2(4), model, tokenizer, some(4), Template("{text} {answer}"))
