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
SCALED = {
    "falcon_h1": GROUPED | {"embedding_multiplier": 5.0, "mamba_d_ssm": 64, "mamba_n_heads": 2, "mamba_d_head": 32}
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
    config = AutoConfig.for_model(kind, vocab_size=size, **(SHAPES | SCALED)[kind], **ends)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
_BART = {f"{side}_{part}": 2 for side in ("encoder", "decoder") for part in ("layers", "attention_heads")}
PAIRS: dict[str, dict[str, Any]] = {
    "t5": _T5,
    "t5 1.1": _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bart": _BART | {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.3},
}


def make_pair(kind: str, tiny: Path, folder: Path) -> Path:
    """A tiny random encoder with a decoder; its tokenizer ends a text with the tiny model's own end, as T5's does."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "decoder_start_token_id": 2}
    config = AutoConfig.for_model(kind.partition(" ")[0], vocab_size=len(tokenizer), **PAIRS[kind], **ends)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    return folder
