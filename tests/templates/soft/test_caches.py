"""What may be run once for several rows, and by which models."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from templates.soft.caches import goes_on
from tests.shapes import GROUPED, SCALED

WINDOWS = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 32}
OLD = {"n_embd": 64, "n_layer": 2, "n_head": 4}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 2.0,
    "short_factor": [1.0] * 16,
    "long_factor": [2.0] * 16,
    "original_max_position_embeddings": 16,
    "partial_rotary_factor": 1.0,
}
ABLE: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": 8},
    "gemma3_text": GROUPED | WINDOWS,
    "gpt2": OLD,
    "ctrl": {"n_embd": 64, "n_layer": 2, "n_head": 4, "dff": 64},  # scales the embeddings that it is given in place
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
}
NOT_ABLE: dict[str, dict[str, Any]] = {
    "openai-gpt": OLD,  # takes no keys and values
    "falcon_h1": SCALED["falcon_h1"],  # keeps states besides
    "recurrent_gemma": GROUPED | {"lru_width": 64, "num_key_value_heads": 1},  # likewise, and says nothing of them
    "roberta": GROUPED | {"is_decoder": True},  # counts positions of embeddings from anew
    "phi3": GROUPED | {"rope_parameters": LONG, "original_max_position_embeddings": 16},  # others in long texts
}


def made(kind: str, config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    special = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config | special)).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ABLE)
def test_models_that_go_on_behind_keys_and_values(kind: str, dtype: torch.dtype) -> None:
    """Whatever they count positions by, however far their layers see, and in 16 bits too."""
    assert goes_on(made(kind, ABLE[kind]).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", NOT_ABLE)
def test_models_that_do_not(kind: str, dtype: torch.dtype) -> None:
    """They say something else, or nothing at all; their rows run in one go."""
    assert not goes_on(made(kind, NOT_ABLE[kind]).to(dtype))
