"""Tiny random models of the architectures that people use."""

from pathlib import Path
from shutil import copytree
from typing import Any

SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
GROUPED = SMALL | {"num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 256, "initializer_range": 0.3}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "gpt2": {"n_layer": 2, "n_embd": 64, "n_head": 2, "n_positions": 256, "initializer_range": 0.3},
    "qwen2": GROUPED,
    "mistral": GROUPED | {"sliding_window": 12},
    "gemma3_text": GROUPED | {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]},
}


def make_shape(kind: str, tiny: Path, folder: Path) -> Path:
    """A tiny random model of one architecture, with the tokenizer of the tiny model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    copytree(tiny, folder)
    for old in ("config.json", "generation_config.json", "model.safetensors"):
        (folder / old).unlink()
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    size = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, vocab_size=size, **SHAPES[kind], **ends)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
