"""Training weights of the model itself, in the loop that trains prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from templates.errors import UserError
from templates.soft.base import Base
from templates.soft.baselines.adapters import Adapter, merged
from templates.soft.baselines.folder import Notes, write_notes
from templates.soft.baselines.methods import Baseline
from templates.soft.dev import Judge
from templates.soft.families import frozen_of
from templates.soft.folder import MERGED, replaced
from templates.soft.made import cost, run_notes
from templates.soft.rows import Labelled, rows_of
from templates.soft.run import Run
from templates.soft.settings import Training
from templates.template import Template


@dataclass(frozen=True, eq=False)
class Tuned:
    """A model whose weights were trained.

    Args:
        model: with what was learnt in its weights.
        tokenizer: its own.
        base: what it was before.
        made: how it came about; see `Notes`.
        adapter: what was learnt alone, where it is an adapter.
    """

    model: Any
    tokenizer: Any
    base: Base
    made: dict[str, Any]
    adapter: Adapter | None = None

    @property
    def notes(self) -> Notes:
        """What is written beside it."""
        return Notes("adapter" if self.adapter else "model", self.base, self.made)

    def save(self, path: str | Path) -> Path:
        """Write it; what was there is replaced when the new one is whole.

        A model is a folder of transformers, with its tokenizer. An adapter is one of PEFT, and the model with the
        adapter in its weights lies in `merged`, for any backend.

        Raises:
            StorageError: disk full, no permission; what was there is untouched.
        """
        with replaced(Path(path)) as new:
            whole = new / MERGED if self.adapter else new
            self.model.save_pretrained(whole)
            self.tokenizer.save_pretrained(whole)
            if self.adapter:
                self.adapter.write(new)
            write_notes(self.notes, new)
        return Path(path)


class Weights(nn.Module):
    """Weights of the model itself as what is trained: there is no prompt."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self) -> None:
        """No prompt."""


def finetune(
    method: Baseline,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Labelled],
    template: Template,
    *,
    dev: Sequence[Labelled] = (),
    training: Training | None = None,
    folder: Path | str | None = None,
) -> Tuned:
    """Train weights of the model on the examples; unlike `train`, this changes the model that is given.

    The end of a label is learnt with it: a model whose weights have changed does not know any more where to stop, while
    one with a prompt does. The dev set is judged as for prompts.

    Args:
        method: which weights: `LoRA()`, `IA3()`, `BitFit()`, `Full()`.
        model: of transformers; afterwards it has what was learnt in its weights. After an error, load it again.
        tokenizer: its own.
        examples: with answers.
        template: how questions and answers are worded, without soft slots.
        dev: examples on which weights are compared; the best ones come back. Without any it is the last ones.
        training: how.
        folder: for checkpoints; a training that was stopped there goes on, and ends as if it had not been.

    Raises:
        DataError: an example without an answer, with an unknown label, or without room in the context; names it.
        Diverged: the loss is not a number; says what to lower. The last checkpoint is good.
        RunMismatch: the folder has the checkpoint of another training.
        UserError: a template with soft slots, weights of 16 bits, or a method that this model is not for.
    """
    settings = training or Training()
    check_data(method, template, examples)
    frozen = frozen_of(model, tokenizer)
    base, size = frozen.base, frozen.size
    rows = rows_of(frozen, template, examples, frozen.context, end=True)
    judge = Judge(frozen, template, dev, frozen.context, settings.batch) if dev else None
    begun = method.begin(model, settings.seed)
    if narrow := {str(weight.dtype) for weight in begun.weights} - {"torch.float32"}:
        raise UserError(
            f"{type(method).__name__} trains weights of {model.name_or_path!r}, which are {', '.join(sorted(narrow))}: "
            "small steps are lost in these; load the model in float32 (--dtype float32)"
        )
    model.name_or_path = f"{base.name} with {method}"  # what is trained for it from now on is for no other
    model.config._commit_hash = None  # noqa: SLF001
    module = Weights(begun.weights)
    with frozen.held(recompute=settings.recompute, learning=begun.weights):
        run = Run(frozen, module, settings, settings.rate or method.rate, rows, judge)
        run.finish(folder, method, (template.verbalizer, rows, judge and judge.rows))
        module.load_state_dict(run.found())
    run.optimizer.zero_grad()
    made = {**run_notes(run, method, template, examples, dev), **cost(run.size, run.size, size)}
    with torch.no_grad():
        adapter = merged(begun.adapter) if begun.adapter else None
    return Tuned(model, tokenizer, base, made, adapter)


def check_data(method: object, template: Template, examples: Sequence[Labelled]) -> None:
    """Refuse templates with places for a prompt, and having nothing to learn from.

    Raises:
        UserError: either of them.
    """
    name = type(method).__name__
    if template.soft is not None or template.soft_tokens:
        raise UserError(
            f"template {template.name!r} has a soft prompt or slots for one, and {name} trains none; take it out"
        )
    if not examples:
        raise UserError("there are no examples to train on")
