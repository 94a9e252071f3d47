"""The tiny Llama before it has read anything, and its tokenizer."""

from itertools import islice
from random import Random
from typing import Any

import torch

from eval.worlds.documents import END, KINDS, START
from eval.worlds.recipe import CONTEXT, Recipe

SPECIAL = {"bos_token": START, "eos_token": END, "pad_token": "<pad>"}
PIECE = r" ?[0-9]| ?\p{L}+| ?[^\s\p{L}0-9]+|\s+"  # no token holds more than one digit, or parts of two words
_READ = 3000  # pieces of each kind that the tokenizer learns its words from
_OWN = 0.3  # of a query's first weights that is not its key's


def make_tokenizer(recipe: Recipe) -> Any:
    """A byte-level tokenizer, so that no text is lost, whose words are those of the worlds; digits stand alone."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    random = Random(recipe.seed)
    pieces = (piece for make in KINDS.values() for _ in range(_READ // 10) for piece in islice(make(random), 10))
    tokenizer.train_from_iterator(("".join(piece).replace(START, "").replace(END, "") for piece in pieces), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT, **SPECIAL)


def make_model(vocabulary: int, recipe: Recipe) -> Any:
    """A Llama with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=recipe.initial,
        attention_bias=True,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    _aim(model, recipe)
    return model


def _aim(model: Any, recipe: Recipe) -> None:
    """Let attention begin with what stands near in the lower layers, and with what is alike in the upper ones.

    From random weights a narrow model takes millions of tokens to find out that it pays to look for an earlier place
    that is like the present one (an induction head, Olsson et al. 2022, arXiv:2209.11895); so begun, a million. Near: a
    constant in queries and keys, in the quarter of the dimensions that RoPE turns fastest. Alike: queries made as keys
    are; Trockman & Kolter 2023 (arXiv:2305.09828) saw the product of the two come near the identity in trained models.
    """
    width = recipe.hidden // recipe.heads
    near = torch.zeros(2, width // 2)  # [halves that RoPE turns together, frequencies]
    near[:, : width // 8] = recipe.near
    for depth, layer in enumerate(model.model.layers):
        attention = layer.self_attn
        with torch.no_grad():
            if depth < recipe.layers // 2:
                for part in (attention.q_proj, attention.k_proj):
                    part.bias.copy_(near.flatten().repeat(len(part.bias) // width))
            else:
                keys = attention.k_proj.weight.unflatten(0, (recipe.kv_heads, width))
                keys = keys.repeat_interleave(recipe.heads // recipe.kv_heads, 0).flatten(0, 1)
                attention.q_proj.weight.mul_(_OWN).add_(keys)
