"""Trains a tiny Llama from nothing on the worlds: `python -m eval.worlds.train FOLDER`. Stopped, the same goes on.

Dimensions: B documents of a batch, T tokens of a document, V vocabulary.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from eval.terminal import run
from eval.worlds.documents import document
from eval.worlds.model import make_model, make_tokenizer
from eval.worlds.recipe import Recipe
from templates.errors import UserError

_KEPT_EVERY = 250  # steps between checkpoints


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

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("there is no GPU here that torch can use; leave --device out")
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
    run(lambda: typer.run(main))
