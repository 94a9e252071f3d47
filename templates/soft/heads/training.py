"""Training a prefix together with a classifier, in the loop that trains prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from templates.errors import DataError, UserError
from templates.soft.baselines.tuned import check_data
from templates.soft.batches import in_batches
from templates.soft.heads.classifier import Classifier
from templates.soft.heads.headed import Exam, Head, Headed, headed
from templates.soft.made import cost, run_notes
from templates.soft.methods import Method
from templates.soft.prompt import Prefix
from templates.soft.rows import Labelled, Row
from templates.soft.run import Run
from templates.soft.settings import Training
from templates.template import Template

_LOOKED = 512  # rows of which the hidden states' mean and deviation are taken


def train_classifier(
    method: Method,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Labelled],
    template: Template,
    labels: Sequence[str] = (),
    *,
    dev: Sequence[Labelled] = (),
    training: Training | None = None,
    folder: Path | str | None = None,
) -> Classifier:
    """Train deep prompts and a linear classifier behind them. The model's weights stay as they are, to the bit.

    Unlike with `train`, labels need no words, and the model no output layer; no engine can serve what comes out.

    Args:
        method: of keys and values: `PTuningV2()`, `PrefixTuning()`.
        model: of transformers: an encoder such as BERT, with an output layer or without, or a causal model.
        tokenizer: its own.
        examples: with labels.
        template: how a text is worded; what stands before the answer is read.
        labels: which there are; by default those of the template's verbalizer, or else of the examples.
        dev: examples on which it is judged on the way; the best comes back. Without any it is the last.
        training: how.
        folder: for checkpoints; see `train`.

    Raises:
        DataError: an example without a label, with an unknown one, or without room in the context; names it.
        Diverged: the loss is not a number; says what to lower. The last checkpoint is good.
        RunMismatch: the folder has the checkpoint of another training.
        UserError: a method of soft tokens, a template with slots for them, or a model that no classifier reads.
    """
    settings = training or Training()
    check_data(method, template, examples)
    if method.kind is not Prefix or settings.recompute:
        raise UserError(
            f"a classifier is trained with keys and values of every layer, which layers that run again (recompute) do "
            f"not take, got {type(method).__name__} and recompute={settings.recompute}; take PTuningV2, without"
        )
    known = labels_of(examples, template, labels)
    bare = headed(model, tokenizer, 0, len(known))
    with bare.held():
        bare.inner.check_cache()
        prefix = method.module(bare.inner, template, settings.seed)
        frozen = headed(model, tokenizer, len(prefix()), len(known))
        rows, judged = (numbered(frozen, template, some, known) for some in (examples, dev))
        module = Head(prefix.to(frozen.device), looked_at(frozen, rows, prefix, settings.batch), len(known))
        judge = Exam(frozen, judged, settings.batch) if dev else None
        run = Run(frozen, module.to(frozen.device), settings, settings.rate or method.rate, rows, judge)
        run.finish(folder, method, ("classifier", known, rows, judged))
    found = run.found()["prompt"]
    vectors, weights, bias = (part.numpy() for part in frozen.parts(found))
    made = {
        **run_notes(run, method, template, examples, dev),
        **cost(found.numel(), run.size, frozen.size),
    }
    return Classifier(Prefix(vectors, frozen.base, made), weights, bias, known, made)


def labels_of(examples: Sequence[Labelled], template: Template, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that there are, in their order.

    Raises:
        UserError: fewer than two, or one twice.
    """
    said = tuple(labels) or (template.verbalizer.labels if template.verbalizer else ())
    found = said or tuple(sorted({example.answer for example in examples if example.answer is not None}))
    if len(set(found)) < max(2, len(found)):
        raise UserError(f"a classifier tells two labels or more apart, each named once, got {list(found)}")
    return found


def numbered(frozen: Headed, template: Template, examples: Sequence[Labelled], labels: Sequence[str]) -> list[Row]:
    """A row for each example, with its label's number.

    Raises:
        DataError: an example without a label, with an unknown one, or without room in the context; names it.
    """
    rows = []
    for example in examples:
        if example.answer not in labels:
            raise DataError(
                f"example {example.id!r} has the label {example.answer!r}, and there are {list(labels)}; add it to "
                "labels=(…), or leave the example out"
            )
        rows.append(frozen.row_for(template, example, labels.index(example.answer)))
    return rows


def looked_at(frozen: Headed, rows: Sequence[Row], prefix: Any, batch: int) -> torch.Tensor:
    """Hidden states of the first rows behind the prefix that training begins with, [N, H]."""
    with torch.no_grad():
        vectors = prefix()
        found = in_batches(frozen, rows[:_LOOKED], batch, lambda some: list(frozen.states(some, vectors)))
    return torch.stack(found)
