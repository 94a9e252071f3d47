"""Tasks as a model is trained on them: one, or several whose rows meet in the batches.

Dimensions: P soft tokens, W numbers of one, K tasks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from templates.errors import UserError
from templates.soft.dev import Dev, Judge
from templates.soft.frozen import Frozen
from templates.soft.made import cost, made_of, worth
from templates.soft.methods import Method
from templates.soft.prompt import SoftPrompt
from templates.soft.rows import Labelled, Row, rows_of
from templates.soft.run import Judging, Objective, Run, identity_of
from templates.soft.settings import Training
from templates.template import Template
from templates.verbalizer import Verbalizer


@dataclass(frozen=True)
class Task:
    """What a prompt is trained for.

    Args:
        name: for the notes; no two tasks have the same.
        template: how its questions and answers are worded.
        examples: with answers.
        dev: examples on which prompts are compared; of several tasks those that have any count the same.
    """

    name: str
    template: Template
    examples: Sequence[Labelled]
    dev: Sequence[Labelled] = ()


@dataclass(frozen=True, eq=False)
class Lessons:
    """Tasks for one model.

    Args:
        method: what is trained.
        frozen: the model.
        tasks: K of them.
        tokens: P, of each task's prompt.
        settings: of the training.
    """

    method: Method
    frozen: Frozen
    tasks: Sequence[Task]
    tokens: int
    settings: Training

    @cached_property
    def placed(self) -> list[Template]:
        """The tasks' templates, with soft tokens where the prompt's will stand."""
        return [self._placed(task.template) for task in self.tasks]

    @cached_property
    def rows(self) -> list[list[Row]]:
        """Of each task."""
        pairs = zip(self.placed, self.tasks, strict=True)
        return [rows_of(self.frozen, placed, task.examples, self._room) for placed, task in pairs]

    @cached_property
    def judges(self) -> list[Judge | None]:
        """Of each task that has a dev set."""
        size = self.settings.batch
        return [
            Judge(self.frozen, placed, task.dev, self._room, size) if task.dev else None
            for placed, task in zip(self.placed, self.tasks, strict=True)
        ]

    def learn(
        self,
        module: nn.Module,
        rows: Sequence[Row],
        judge: Judging,
        folder: Path | str | None,
        objective: Objective | None = None,
    ) -> Run:
        """Train the module on the rows; see `Run`.

        Args:
            module: what is trained.
            rows: of all tasks.
            judge: asked where a task has a dev set.
            folder: for checkpoints.
            objective: see `Run`.
        """
        settings, method = self.settings, self.method
        identity = identity_of(method, settings, zip(self.placed, self.rows, strict=True), self.frozen)
        judging = judge if any(self.judges) else None
        with self.frozen.held(recompute=settings.recompute):
            run = Run(
                self.frozen, module, settings, settings.rate or method.rate, rows, judging, objective=objective
            )
            run.finish(Path(folder) if folder else None, identity)
        return run

    def devs(self, prompts: Sequence[Tensor]) -> dict[str, Dev]:
        """What a prompt for each task, [P, W], is worth on its dev set, where it has one."""
        judged = zip(self.tasks, self.judges, prompts, strict=True)
        with self.frozen.held(), torch.no_grad():
            return {
                task.name: judge(prompt.to(self.frozen.device)) for task, judge, prompt in judged if judge is not None
            }

    def made(self, devs: Mapping[str, Dev], run: Run) -> dict[str, Any]:
        """Notes on what was trained for all tasks; for several also on each of them.

        Args:
            devs: what it is worth for each task that has a dev set.
            run: in which it was trained.
        """
        said = {task.name: self._said(task, devs.get(task.name), run) for task in self.tasks}
        if len(said) == 1:
            return said[self.tasks[0].name]
        known = [example for task in self.tasks for example in task.examples]
        notes = made_of(self.method, self.settings, self.tasks[0].template, known, _steps(run))
        own = {
            name: {key: its[key] for key in ("template", "examples", "dev", "dev_examples") if key in its}
            for name, its in said.items()
        }
        dev = Dev.mean(list(devs.values())) if devs else None
        judged = worth(dev, [example for task in self.tasks for example in task.dev])
        return {**notes, "template": ", ".join(its["template"] for its in said.values()), **judged, "tasks": own}

    def _said(self, task: Task, dev: Dev | None, run: Run) -> dict[str, Any]:
        notes = made_of(self.method, self.settings, task.template, task.examples, _steps(run))
        return {**notes, **worth(dev, task.dev)}

    @property
    def _room(self) -> int:
        """Tokens that a row may have."""
        return self.frozen.context - (0 if self.method.kind is SoftPrompt else self.tokens)

    def _placed(self, template: Template) -> Template:
        if self.method.kind is SoftPrompt:
            blank = SoftPrompt(np.zeros((self.tokens, self.frozen.base.hidden)), self.frozen.base)
            return replace(template, soft=blank)
        if template.soft_tokens:
            raise UserError(
                f"template {template.name!r} has soft slots, and {type(self.method).__name__} trains keys and values, "
                "which stand before everything; take the slots out of its text"
            )
        return template
