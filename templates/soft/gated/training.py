"""Training a LLaMA-Adapter, in the loop that trains prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from templates.errors import UserError
from templates.soft.baselines.tuned import check_data
from templates.soft.dev import Judge
from templates.soft.families import frozen_of
from templates.soft.frozen import Frozen
from templates.soft.gated.attention import attending, attentions
from templates.soft.gated.method import LlamaAdapter
from templates.soft.gated.modules import Gated
from templates.soft.gated.value import GatedPrompt
from templates.soft.made import cost, run_notes
from templates.soft.rows import Batch, Labelled, rows_of
from templates.soft.run import Run
from templates.soft.settings import Training
from templates.template import Template


@dataclass(eq=False)
class Attending(Frozen):
    """A model whose layers attend to what is trained, and not before their text.

    Args:
        model: see `applied`.
        tokenizer: its own.
        module: what is trained; called, it gives prompts and gates as one vector.
    """

    module: Gated

    def run(self, batch: Batch, prompt: Tensor | None) -> Any:
        """What the model makes of the rows."""
        if prompt is None:
            return super().run(batch, None)
        with attending(self.model, *self.module.parts(prompt)):
            return super().run(batch, None)


def train_adapter(
    method: LlamaAdapter,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Labelled],
    template: Template,
    *,
    dev: Sequence[Labelled] = (),
    training: Training | None = None,
    folder: Path | str | None = None,
) -> GatedPrompt:
    """Train a LLaMA-Adapter on the examples. The model's weights stay as they are, to the bit.

    Args:
        method: how large it is, and what it begins with.
        model: a causal model of transformers, a Llama, Mistral or Qwen.
        tokenizer: its own.
        examples: with answers.
        template: how questions and answers are worded, without soft slots.
        dev: examples on which adapters are compared; the best one comes back. Without any it is the last one.
        training: how.
        folder: for checkpoints; a training that was stopped there goes on, and ends as if it had not been.

    Raises:
        DataError: an example without an answer, with an unknown label, or without room in the context; names it.
        Diverged: the loss is not a number; says what to lower. The last checkpoint is good.
        RunMismatch: the folder has the checkpoint of another training.
        Unsupported: a model whose attention is another.
        UserError: a template with soft slots, or a model without an output layer.
    """
    settings = training or Training()
    check_data(method, template, examples)
    if settings.recompute:
        raise UserError(
            "LlamaAdapter trains within the layers' attention, which layers that run again (recompute) would leave "
            "out; train it without, in smaller batches"
        )
    attentions(model)  # refuses other models before anything is computed
    plain = frozen_of(model, tokenizer)
    with plain.held():
        module = method.module(plain, settings.seed).to(plain.device)
        frozen = Attending(model, tokenizer, module)
        rows = rows_of(frozen, template, examples, frozen.context)
        judge = Judge(frozen, template, dev, frozen.context, settings.batch) if dev else None
        run = Run(frozen, module, settings, settings.rate or method.rate, rows, judge)
        run.finish(folder, method, (template.verbalizer, rows, judge and judge.rows))
    found = run.found()["prompt"]
    prompts, gates = module.parts(found)
    made = {
        **run_notes(run, method, template, examples, dev),
        **cost(found.numel(), run.size, frozen.size),
    }
    return GatedPrompt(prompts.numpy(), gates.numpy(), frozen.base, made)
