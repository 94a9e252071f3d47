"""Training several prompts for one task, and how much each of them counts.

Dimensions: P soft tokens, H hidden, J prompts, B rows, A answer tokens of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from templates.errors import UserError
from templates.soft.dev import Dev, Judge
from templates.soft.families import frozen_of
from templates.soft.made import cost
from templates.soft.methods import PromptTuning, PTuning
from templates.soft.mixture import Mixture, mixed
from templates.soft.modules import Mixing
from templates.soft.prompt import SoftPrompt, Trained
from templates.soft.rows import Labelled, Row
from templates.soft.settings import Training
from templates.soft.tasks import Lessons, Task, check
from templates.template import Template
from templates.verbalizer import probable

if TYPE_CHECKING:
    from torch import nn

    from templates.soft.frozen import Frozen


@dataclass(frozen=True)
class MixedPrompts:
    """J prompts that together say p(y|x) = Σ_j w_j p(y|prompt_j, x); prompts and weights are learnt.

    Qin & Eisner 2021, arXiv:2104.06599, section 3.4. The weights are those of the task, the same for all inputs.

    Args:
        count: J. Each step runs every row with each of them.
        each: how they are made. The first begins as this says, the others with words that are drawn for each: prompts
            that began alike would stay alike.
    """

    count: int = 4
    each: PromptTuning | PTuning = field(default_factory=partial(PromptTuning, init="vocabulary"))
    kind: ClassVar[type[Trained]] = SoftPrompt
    inits: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Refuse none, and what gives no soft prompts: keys and values stand before all rows of a batch alike."""
        if self.each.kind is not SoftPrompt:
            raise UserError(f"MixedPrompts mixes soft prompts; {type(self.each).__name__} trains keys and values")
        if self.count < 1:
            raise UserError(f"MixedPrompts needs count ≥ 1, got {self.count}")

    @property
    def rate(self) -> float:
        """That of each prompt."""
        return self.each.rate

    def module(self, frozen: "Frozen", template: Template, seed: int) -> "nn.Module":
        """All prompts, and their weights."""
        others = [replace(self.each, init="vocabulary")] * (self.count - 1)
        return Mixing(
            [
                one.module(frozen, template, seed * self.count + number)
                for number, one in enumerate([self.each, *others])
            ]
        )


def train_mixture(
    method: MixedPrompts,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Labelled],
    template: Template,
    *,
    dev: Sequence[Labelled] = (),
    training: Training | None = None,
    folder: Path | str | None = None,
) -> Mixture:
    """Train a mixture of soft prompts on the examples; see `train`.

    Args:
        method: how many prompts, and which.
        model: as in `train`.
        tokenizer: as in `train`.
        examples: as in `train`.
        template: as in `train`; with a verbalizer where there is a dev set.
        dev: as in `train`; a label's score is what all prompts say together.
        training: as in `train`; a batch runs as many times as there are prompts, all at once.
        folder: as in `train`.

    Returns:
        Prompts and weights; `icl.mixture.mixture_scores` asks a model with all of them.

    Raises:
        UserError: a dev set, and answers that are free: no one prompt says what the mixture would. A verbalizer whose
            scores are no probabilities. Else as `train`.
    """
    settings, frozen = training or Training(), frozen_of(model, tokenizer)
    task = Task(template.name, template, examples, dev)
    check(method, frozen, [task], settings)
    if dev and template.verbalizer is None:
        raise UserError(
            f"a mixture is judged by its labels' scores, and template {template.name!r} has no verbalizer; give it "
            "one, or train without a dev set"
        )
    if template.verbalizer is not None:
        probable(template)
    with frozen.held():
        module = method.module(frozen, template, settings.seed).to(frozen.device)
    size = len(module()["prompt"]) // method.count  # P
    lessons = Lessons(method, frozen, [task], size, settings)
    judge = partial(judged, lessons.judges[task.name]) if dev else None
    run = lessons.learn(module, lessons.rows[0], folder, judge=judge, objective=partial(mixture_loss, frozen))
    found = run.found()
    weights = found["logs"].double().softmax(0)
    made = {**lessons.made(run, {}), **cost(found["prompt"].numel() + method.count, run.size, frozen.size)}
    own = {name: made[name] for name in ("method", "template", "wording")}  # worth and cost are the mixture's
    prompts = [SoftPrompt(its.numpy(), frozen.base, own) for its in torch.split(found["prompt"], size)]
    return Mixture(prompts, weights.tolist(), made)


def mixture_loss(frozen: "Frozen", rows: Sequence[Row], prompt: Tensor, logs: Tensor) -> Tensor:
    """-Σ_rows log Σ_j w_j p(answer|prompt_j, question).

    Args:
        frozen: the model.
        rows: B of them.
        prompt: [J·P, H].
        logs: log w, [J].
    """
    size = len(prompt) // len(logs)
    batch = frozen.batch([row.moved(number * size) for number in range(len(logs)) for row in rows])
    losses = torch.split(frozen.losses(batch, prompt), batch.answers)  # J·B rows' answer tokens
    chances = -torch.stack([its.sum() for its in losses]).view(len(logs), -1)  # [J, B]
    return -torch.logsumexp(logs[:, None] + chances, 0).sum()


def judged(judge: Judge, prompt: Tensor, logs: Tensor) -> Dev:
    """What the mixture is worth; see `mixture_loss`."""
    weights = logs.double().softmax(0).tolist()
    scores, own = judge.scores(prompt, len(logs))
    return judge.worth(mixed(scores, weights), mixed(own, weights))
