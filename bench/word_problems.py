"""What soft prompts are trained on here: GSM8K's rows in a tokenizer's tokens, and models of random weights."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.tasks.gsm8k import GSM8K
from icl import Example

DATA = Path("../shared/data/gsm8k/train.jsonl")
TOKENS = 8_000  # of the tokenizer; models with more have rows of embeddings that no text uses
_END, _PAD = "</s>", "<pad>"


def rows_in(data: Path, count: int) -> list[Example]:
    """The file's first rows as `eval gsm8k` reads them; made-up ones would not be as long as real ones are."""
    if not data.is_file():
        sys.exit(f"{data} is not there; give a file of GSM8K's rows with --data")
    return list(GSM8K.load_pool(data, count))


def tokenizer_for(texts: Iterable[str]) -> Any:
    """Byte-level BPE, digits apart, trained on the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=TOKENS, special_tokens=[_END, _PAD], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END, pad_token=_PAD)


def llama(vocabulary: int) -> Any:
    """A Llama of eight layers, hidden size 256, in float32, the same weights each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=688,  # as much wider as Llama's own
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.name_or_path = f"random-llama-{vocabulary}"
    return model
