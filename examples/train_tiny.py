"""A tiny Llama that learns on the spot: from random weights, in a good minute on one core, to sums in few-shot form.

Dimensions: B documents of a batch, T tokens of a document, V vocabulary.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any, TypeAlias

import torch
from torch import Tensor

from icl.example import Example
from templates import Template, load_template
from templates.errors import UserError

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
PIECE = r"\n+| ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]"  # a word, a digit or a sign, each with the space before it
START = "Q:"  # of every question
LEAST = 40  # tokens that hold the longest question and some of its answer
CONTEXT = 512  # positions of the model

Tokens: TypeAlias = list[int]
Spoken: TypeAlias = tuple[Tokens, Tokens]  # what a question says, and what the model is to say after it

_UNTAUGHT = -100  # the label that cross_entropy leaves out


@dataclass(frozen=True)
class Recipe:
    """How model and training look.

    Args:
        hidden: width of the model.
        layers: its depth.
        tokens: of a document, T.
        batch: documents of a step, B.
        steps: of the optimizer.
        short: how many of the steps come first with documents of a quarter of the length, and four times as many.
        rate: the highest learning rate of the one cycle.
        direct: share of documents that show answers without rationales.
        seed: of the weights and of the documents.
    """

    hidden: int = 96
    layers: int = 3
    tokens: int = 256
    batch: int = 4
    steps: int = 1500
    short: int = 700
    rate: float = 4e-3
    direct: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse documents that end before their first answer: they would teach nothing."""
        shortest = self.tokens // 4 if self.short else self.tokens
        if shortest < LEAST:
            raise UserError(f"the shortest document needs {LEAST} tokens, got {shortest}; take more tokens")


def train(
    examples: Sequence[Example], folder: Path, recipe: Recipe, on_step: Callable[[float], None] = lambda _: None
) -> Path:
    """Train a model on documents of solved examples, and write it with its tokenizer: the whole folder or nothing.

    Args:
        examples: with rationales.
        folder: must not exist.
        recipe: how.
        on_step: called with the loss of each step: a progress bar.
    Returns:
        The folder.
    """
    cot, direct = load_template("math.cot.v1"), load_template("math.direct.v1")
    tokenizer = make_tokenizer([cot.demo(e.shown, e.answer or "") + cot.separator for e in examples])
    spoken = {template.name: speak(tokenizer, template, examples) for template in (cot, direct)}
    torch.manual_seed(recipe.seed)
    model = make_model(len(tokenizer), recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.1)
    random, start = Random(recipe.seed), tokenizer.encode(START)
    for step in range(recipe.steps):
        quarters = 4 if step < recipe.short else 1  # first one question at a time: what to look at is learnt sooner
        kinds = [direct if random.random() < recipe.direct else cot for _ in range(recipe.batch * quarters)]
        documents = [document(spoken[kind.name], start, recipe.tokens // quarters, random) for kind in kinds]
        loss = loss_of(model, documents)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(loss.item())
    return _write(folder, model, tokenizer)


def make_tokenizer(texts: Sequence[str]) -> Any:
    """One token for each word and sign of the texts and for each digit, in transformers' form."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    digits = {f"{space}{digit}" for digit in range(10) for space in ("", " ")}
    words = sorted(digits.union(*(re.findall(PIECE, text) for text in texts)))
    vocabulary = {word: number for number, word in enumerate([*SPECIAL.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT, **SPECIAL)


def make_model(vocabulary: int, recipe: Recipe) -> Any:
    """A Llama with random weights, some 0.3 million of them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.hidden * 8 // 3,
        num_hidden_layers=recipe.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def speak(tokenizer: Any, template: Template, examples: Sequence[Example]) -> list[Spoken]:
    """Solved examples, each as it stands in a prompt: after its "Q:" and up to the next one's.

    So the model also learns where an answer ends. Prompt and answer are cut apart as in the toolkit's own prompts.
    """
    asked = [template.prompt(e.shown).removeprefix(START) for e in examples]
    said = [template.continuation(e.shown, e.answer or "") + template.separator + START for e in examples]
    both = tokenizer([*asked, *said], add_special_tokens=False).input_ids  # all at once
    return list(zip(both[: len(examples)], both[len(examples) :], strict=True))


def document(spoken: Sequence[Spoken], start: Tokens, length: int, random: Random) -> tuple[Tokens, Tokens]:
    """Examples one after another, cut at the length: T tokens, and T labels that teach the answers alone."""
    tokens, labels = list(start), [_UNTAUGHT] * len(start)
    while len(tokens) < length:
        asked, said = random.choice(spoken)
        tokens += asked + said
        labels += [_UNTAUGHT] * len(asked) + said
    return tokens[:length], labels[:length]


def loss_of(model: Any, documents: Sequence[tuple[Tokens, Tokens]]) -> Tensor:
    """Cross-entropy of the next token, over the labels that teach."""
    tokens = torch.tensor([tokens for tokens, _ in documents])  # [B, T]
    labels = torch.tensor([labels for _, labels in documents])  # [B, T]
    logits = model(input_ids=tokens, use_cache=False).logits  # [B, T, V]
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def _write(folder: Path, model: Any, tokenizer: Any) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        return new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
