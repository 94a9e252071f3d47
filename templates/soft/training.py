"""Training a prompt for a model that stays as it is, whatever the method."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from templates.errors import UserError
from templates.soft.dev import Judge
from templates.soft.families import frozen_of
from templates.soft.frozen import Frozen
from templates.soft.made import cost, made_of, worth
from templates.soft.methods import Method
from templates.soft.prompt import SoftPrompt, Trained
from templates.soft.rows import Labelled, rows_of
from templates.soft.run import Run, identity_of
from templates.soft.settings import Training
from templates.template import Template


def train(
    method: Method,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Labelled],
    template: Template,
    *,
    dev: Sequence[Labelled] = (),
    training: Training | None = None,
    folder: Path | str | None = None,
) -> Trained:
    """Train a prompt on the examples. The model's weights stay as they are, to the bit.

    Args:
        method: what is trained: `PromptTuning()`, `PTuning()`, `PrefixTuning()`, …
        model: of transformers: a causal or a masked language model, or an encoder with a decoder.
        tokenizer: its own.
        examples: with answers; what the prompt is to bring the model to say.
        template: how questions and answers are worded; with soft slots the soft prompt stands there, else in front.
        dev: examples on which prompts are compared; the best one comes back. Without any it is the last one.
        training: how.
        folder: for checkpoints; a training that was stopped there goes on, and ends as if it had not been.

    Returns:
        The prompt; `made` says how it came about. It runs on any backend: `replace(template, soft=prompt)`.

    Raises:
        DataError: an example without an answer, with an unknown label, or without room in the context; names it.
        Diverged: the loss is not a number; says what to lower. The last checkpoint is good.
        RunMismatch: the folder has the checkpoint of another training.
    """
    settings = training or Training()
    frozen = frozen_of(model, tokenizer)
    if template.soft is not None:
        raise UserError(f"template {template.name!r} has a trained prompt already; train with soft=None")
    if not examples:
        raise UserError("there are no examples to train on")
    if settings.recompute and method.kind is not SoftPrompt:
        raise UserError(
            f"{type(method).__name__} trains keys and values, which layers that run again (recompute) do not take; "
            "train it without, in smaller batches"
        )
    if method.kind not in frozen.kinds:
        raise UserError(
            f"{type(method).__name__} trains a {method.kind.__name__}, which {frozen.base.name!r} "
            f"({model.config.model_type}) cannot take here; train {' or '.join(one.__name__ for one in frozen.kinds)}s"
        )
    module = method.module(frozen, template, settings.seed).to(frozen.device)
    tokens = len(module())
    placed, room = _placed(method, frozen, template, tokens)
    rows = rows_of(frozen, placed, examples, room)
    judge = Judge(frozen, placed, dev, room, settings.batch) if dev else None
    with frozen.held(recompute=settings.recompute):
        run = Run(frozen, module, settings, settings.rate or method.rate, rows, judge)
        run.finish(Path(folder) if folder else None, identity=identity_of(method, settings, [(placed, rows)], frozen))
    vectors = run.found()["prompt"].numpy()
    made = made_of(method, settings, template, examples, run.best.step if run.best else run.done)
    judged = worth(run.best.dev if run.best else None, dev)
    return method.kind(vectors, frozen.base, {**made, **judged, **cost(vectors.size, frozen.size)})


def _placed(method: Method, frozen: Frozen, template: Template, tokens: int) -> tuple[Template, int]:
    """The template with soft tokens where the prompt's will stand, and the tokens that a row may have."""
    if method.kind is SoftPrompt:
        blank = SoftPrompt(np.zeros((tokens, frozen.base.hidden)), frozen.base)
        return replace(template, soft=blank), frozen.context
    if template.soft_tokens:
        raise UserError(
            f"template {template.name!r} has soft slots, and {type(method).__name__} trains keys and values, which "
            "stand before everything; take the slots out of its text"
        )
    return template, frozen.context - tokens
