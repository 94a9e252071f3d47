"""Multitask prompts: one for each task, made of what all tasks share and of little that is the task's own.

Dimensions: P soft tokens, H hidden, K tasks, r rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from templates.errors import UserError
from templates.soft.families import frozen_of
from templates.soft.made import cost
from templates.soft.methods import PromptTuning, PTuning
from templates.soft.modules import Factored
from templates.soft.prompt import SoftPrompt, Trained
from templates.soft.settings import Training
from templates.soft.tasks import Lessons, Task, check, joint

if TYPE_CHECKING:
    from torch import nn

    from templates.soft.frozen import Frozen
    from templates.template import Template


@dataclass(frozen=True)
class Multitask:
    """P̂_k = P* ∘ (u_k v_k): a shared prompt, times a matrix of low rank for each task.

    Wang et al. 2023, arXiv:2303.02861, section 3.1. Unlike there, prompts are not distilled from ones that were trained
    for each task before (section 3.2), and shared and own parts learn at one rate.

    Args:
        shared: how P* is made; [P, H].
        rank: r of u_k [P, r] and v_k [r, H]; 1 in the paper.
    """

    shared: PromptTuning | PTuning = field(default_factory=PromptTuning)
    rank: int = 1
    kind: ClassVar[type[Trained]] = SoftPrompt
    inits: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Refuse what gives no soft prompts: keys and values stand before all rows of a batch alike."""
        if self.shared.kind is not SoftPrompt:
            raise UserError(f"Multitask shares a soft prompt; {type(self.shared).__name__} trains keys and values")
        if self.rank < 1:
            raise UserError(f"Multitask needs rank ≥ 1, got {self.rank}")

    @property
    def rate(self) -> float:
        """That of the shared prompt."""
        return self.shared.rate

    def module(self, frozen: "Frozen", template: "Template", seed: int, tasks: int = 1) -> "nn.Module":
        """The prompts of so many tasks."""
        return Factored(self.shared.module(frozen, template, seed), tasks, self.rank, seed)


def train_multitask(
    method: Multitask,
    model: Any,
    tokenizer: Any,
    tasks: Sequence[Task],
    *,
    training: Training | None = None,
    folder: Path | str | None = None,
) -> Mapping[str, SoftPrompt]:
    """Train a soft prompt for each of several tasks, all at once. Unlike in `train_together` no two get the same.

    Args:
        method: what they share, and what not.
        model: as in `train`.
        tokenizer: as in `train`.
        tasks: at least two; those with soft slots have slots for as many tokens.
        training: as in `train`.
        folder: as in `train`.

    Returns:
        Each task's prompt by the task's name.

    Raises:
        UserError: tasks that cannot be trained together. Else as `train`.
    """
    settings, frozen = training or Training(), frozen_of(model, tokenizer)
    check(method, frozen, tasks, settings)
    if len(tasks) == 1:
        raise UserError(f"multitask prompts share what tasks have in common, and {tasks[0].name!r} is alone; use train")
    with frozen.held():
        module = method.module(frozen, joint(tasks), settings.seed, len(tasks)).to(frozen.device)
    size = len(module()) // len(tasks)  # P
    lessons = Lessons(method, frozen, tasks, size, settings)
    rows = [row.moved(number * size) for number, its in enumerate(lessons.rows) for row in its]
    run = lessons.learn(module, rows, folder)
    prompts = run.found()["prompt"]
    made = lessons.made(run, lessons.devs(prompts))
    shared = {key: made[key] for key in ("method", "settings", "steps")}
    together = {"together": list(made["tasks"]), **cost(size * frozen.base.hidden, run.size, frozen.size)}
    return {
        name: SoftPrompt(vectors.numpy(), frozen.base, {**shared, **own, **together})
        for (name, own), vectors in zip(made["tasks"].items(), torch.split(prompts, size), strict=True)
    }
