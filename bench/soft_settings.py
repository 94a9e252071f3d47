"""The settings in which soft prompts are trained, and in each of them the ways to train: ours, PEFT's, a bare loop."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch

from bench.bare_loop import Bare
from bench.peft_training import Peft
from bench.word_problems import llama, tokenizer_for
from icl import Example
from templates import Template, load_template
from templates.soft import PrefixTuning, PromptTuning, PTuning, SoftPrompt, Training
from templates.soft.frozen import Frozen
from templates.soft.rows import Row, cut, rows_of
from templates.soft.run import Run

P, BATCH = 20, 16
STEPS = Training(batch=BATCH, schedule="constant", warmup=0, clip=0.0)  # as PEFT's loop: no schedule, nothing clipped

Batch = Sequence[Row]
_LED = "Q: {question}\nA: {rationale} The answer is {answer}"


@dataclass(frozen=True)
class Setting:
    """What is trained, and how many times as fast as with PEFT it should be.

    Args:
        name: of its figures.
        method: of training.
        vocabulary: V of the model.
        same: the bar for the same batches.
        whole: the bar for a whole epoch.
        short: whether the final number alone is the answer, and all that leads to it belongs to the prompt.
    """

    name: str
    method: PromptTuning | PTuning | PrefixTuning
    vocabulary: int
    same: float
    whole: float
    short: bool = False


LARGE = Setting("prompt tuning, V 152k", PromptTuning(P), 151_936, 3, 4.5)
SETTINGS = (
    Setting("prompt tuning, V 8k", PromptTuning(P), 8_000, 1.1, 2.7),
    Setting("prompt tuning, V 32k", PromptTuning(P), 32_000, 2, 3),
    Setting("prompt tuning of 100 tokens, V 32k", PromptTuning(100), 32_000, 3, 4),  # as many as in Lester et al.
    LARGE,
    replace(LARGE, name="prompt tuning, V 152k, the number alone", same=8, whole=15, short=True),
    Setting("P-tuning (LSTM), V 32k", PTuning(P, encoder="lstm"), 32_000, 2, 4),
    Setting("prefix tuning, V 32k", PrefixTuning(P), 32_000, 1.5, 3),
)


class Fed(Run):
    """A training that is given its batches."""

    _given: Batch = ()

    def feed(self, batch: Batch) -> float:
        """One step on these rows."""
        self._given = batch
        return self.step()

    def _batch(self, _: int) -> Batch:
        return self._given


class Case:
    """A model, the rows that it learns, and the ways to train it."""

    def __init__(self, setting: Setting, examples: Sequence[Example]) -> None:
        template = load_template("math.cot.v1")
        tokenizer = tokenizer_for(template.demo(example.shown, example.answer or "") for example in examples)
        self.method, self.frozen = setting.method, Frozen(llama(setting.vocabulary), tokenizer)
        self.template = replace(template, text=_LED, response="{answer}") if setting.short else template
        led = [replace(one, fields={**one.fields, "rationale": one.rationale or ""}) for one in examples]
        self.rows = rows_of(self.frozen, self._placed(), led if setting.short else examples, self.frozen.context)

    def ours(self) -> Fed:
        """A training of ours, at its start."""
        module = self.method.module(self.frozen, self.template, 0)
        return Fed(self.frozen, module, STEPS, self.method.rate, [], None)

    def theirs(self) -> Peft:
        """A training of PEFT's; for prompt tuning from the same start, in steps of the same size."""
        module = self.ours().module
        if isinstance(self.method, PromptTuning):
            start, unit = torch.as_tensor(module.start), torch.as_tensor(module.unit)
            return Peft(self.method, self.frozen.model, self.method.rate * unit[0].item(), start)
        return Peft(self.method, self.frozen.model, self.method.rate)

    def bare(self) -> Bare:
        """The shortest loop, from our start."""
        return Bare(self.frozen, self.method.module(self.frozen, self.template, 0), self.method.rate)

    def shuffled(self) -> list[Batch]:
        """PEFT's epoch."""
        return cut(Random(0).sample(self.rows, len(self.rows)), BATCH)

    def apart(self, theirs: Peft, batch: Batch) -> float:
        """How far our loss with PEFT's prompt is from PEFT's own."""
        with torch.no_grad():
            ours = self.frozen.loss(self.frozen.batch(batch), theirs.prompt()) / sum(row.answer for row in batch)
        return abs(float(ours) - theirs.loss(batch))

    def _placed(self) -> Template:
        if self.method.kind is not SoftPrompt:
            return self.template
        vectors = np.zeros((self.method.tokens, self.frozen.base.hidden))
        return replace(self.template, soft=SoftPrompt(vectors, self.frozen.base))
