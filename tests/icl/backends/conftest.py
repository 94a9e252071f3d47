"""Tiny random models of the architectures that people use."""

from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
GROUPED = SMALL | {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256, "initializer_range": 0.3}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 256, "initializer_range": 0.3},
    "qwen2": GROUPED,
    "mistral": GROUPED | {"sliding_window": 12},
    "gemma3_text": GROUPED | {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]},
}


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of one architecture."""
    folder: Path = copytree(tiny_model, tmp_path_factory.mktemp("shapes") / request.param)
    for old in ("config.json", "generation_config.json", "model.safetensors"):
        (folder / old).unlink()
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    size = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(1)
    config = AutoConfig.for_model(request.param, vocab_size=size, **SHAPES[request.param], **ends)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
