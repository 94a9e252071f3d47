"""Trains a tiny Llama from nothing on the worlds: `python -m eval.worlds.train FOLDER`. Stopped, the same goes on.

Dimensions: B documents of a batch, T tokens of a document, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from eval.worlds.documents import END, FIRST, KINDS, SHARES, START, THEN, document
from templates.errors import UserError

CONTEXT = 1024  # positions of the model
SPECIAL = {"bos_token": START, "eos_token": END, "pad_token": "<pad>"}
PIECE = r" ?[0-9]| ?\p{L}+| ?[^\s\p{L}0-9]+|\s+"  # no token holds more than one digit, or parts of two words
_READ = 3000  # pieces of each kind that the tokenizer learns its words from
_OWN = 0.3  # of a query's first weights that is not its key's
_KEPT_EVERY = 250  # steps between checkpoints


@dataclass(frozen=True)
class Phase:
    """Steps with batches of one shape, made of documents of these kinds."""

    steps: int
    documents: int  # B
    tokens: int  # T
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)


@dataclass(frozen=True)
class Recipe:
    """How model and training look.

    Args:
        hidden: width of the model.
        layers: its depth.
        heads: of attention; a head is hidden / heads wide.
        kv_heads: heads of keys and values.
        inner: width of the layers between.
        vocabulary: tokens, at the most.
        phases: to look for what is alike comes before everything else (`FIRST`, `THEN`); short documents, many small
            steps of them, before long ones: what to look at is learnt sooner there.
        rate: the highest learning rate.
        initial: standard deviation of the random weights, about hidden^-½. At transformers' own 0.02, which suits wide
            models, the attention of a narrow one stays even for thousands of steps.
        near: size of the bias by which attention in the lower half of the layers begins with what stands near.
        warmup: steps up to it; from there it falls in a cosine to a hundredth.
        seed: of the weights and of the documents.
    """

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    inner: int = 384
    vocabulary: int = 1024
    phases: tuple[Phase, ...] = (
        Phase(1500, 32, 32, FIRST),
        Phase(3000, 16, 64, THEN),
        Phase(6000, 8, 128),
        Phase(6000, 8, 256),
        Phase(3000, 4, CONTEXT),
    )
    rate: float = 3e-3
    initial: float = 0.08
    near: float = 2.0
    warmup: int = 200
    seed: int = 0

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase(self, step: int) -> Phase:
        """The phase of a step."""
        passed = 0
        for phase in self.phases:
            passed += phase.steps
            if step < passed:
                return phase
        raise UserError(f"the recipe has {self.steps} steps, so there is no step {step}")

    def rate_at(self, step: int) -> float:
        """The learning rate: up in a line, down in a cosine."""
        up = min(1.0, (step + 1) / self.warmup)
        return self.rate * up * (0.505 + 0.495 * math.cos(math.pi * step / self.steps))


def train(
    folder: Path, recipe: Recipe, device: str = "cpu", on_step: Callable[[int, float], None] = lambda *_: None
) -> Path:
    """Train the recipe's model, or go on where its training was stopped, and write it in Hugging Face's form.

    On one machine a training that was stopped ends with the same weights as one that was not: each step's documents
    come from the seed and the step alone.

    Args:
        folder: for the checkpoint and the model.
        recipe: how.
        device: where.
        on_step: called with the number of steps done and the last one's loss: a progress bar.
    Returns:
        The model's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(recipe)
    model = make_model(len(tokenizer), recipe).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    checkpoint = folder / "checkpoint.pt"
    done = _restored(checkpoint, recipe, model, optimizer, device)
    for step in range(done, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        loss = loss_of(model, *(part.to(device) for part in batch(tokenizer, recipe, step)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step(step + 1, loss.item())
        if (step + 1) % _KEPT_EVERY == 0 or step + 1 == recipe.steps:
            _keep(checkpoint, recipe, model, optimizer, step + 1)
    return _write(folder / "model", model, tokenizer)


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


def batch(tokenizer: Any, recipe: Recipe, step: int) -> tuple[Tensor, Tensor]:
    """The documents of a step, [B, T], and how much each of their tokens teaches, [B, T]."""
    random, phase = Random(f"{recipe.seed}/{step}"), recipe.phase(step)
    documents = [document(tokenizer, random, phase.tokens, phase.shares) for _ in range(phase.documents)]
    return torch.tensor([tokens for tokens, _ in documents]), torch.tensor([teaches for _, teaches in documents])


def loss_of(model: Any, tokens: Tensor, teaches: Tensor) -> Tensor:
    """Mean cross-entropy of the next token, weighted by what it teaches."""
    logits = model(input_ids=tokens, use_cache=False).logits  # [B, T, V]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
    )  # [B·(T - 1)]
    weights = teaches[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def _restored(checkpoint: Path, recipe: Recipe, model: Any, optimizer: Any, device: str) -> int:
    """Steps that are done already; model and optimizer are as they were after them."""
    if not checkpoint.is_file():
        return 0
    kept = torch.load(checkpoint, map_location=device, weights_only=True)
    if kept["recipe"] != repr(recipe):
        raise UserError(f"{checkpoint} is of another recipe ({kept['recipe']}); choose another folder")
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    return int(kept["done"])


def _keep(checkpoint: Path, recipe: Recipe, model: Any, optimizer: Any, done: int) -> None:
    new = checkpoint.with_suffix(".new")
    kept = {"recipe": repr(recipe), "done": done, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(kept, new)
    new.replace(checkpoint)


def _write(folder: Path, model: Any, tokenizer: Any) -> Path:
    """Weights in half precision; the configuration asks for float32, in which they are to be computed with."""
    model.half().save_pretrained(folder)
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main(
    folder: Annotated[Path, typer.Argument(help="For the checkpoint, and in the end the model.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Of the processor.")] = 2,
) -> None:
    """Train the model that is bundled with the toolkit, or go on where that was stopped."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from transformers.utils.logging import disable_progress_bar

    torch.set_num_threads(threads)
    disable_progress_bar()  # transformers' own, for writing files
    recipe = Recipe()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("steps", total=recipe.steps)
        written = train(
            folder,
            recipe,
            device,
            lambda done, loss: bar.update(task, completed=done, description=f"loss {loss:.3f}"),
        )
    typer.echo(f"{written} has the model")


if __name__ == "__main__":
    typer.run(main)
