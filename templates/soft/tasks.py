"""Tasks as a model is trained on them: one, or several whose rows meet in the batches.

Dimensions: P soft tokens, W numbers of one, K tasks.
"""

from collections.abc import Mapping, Sequence
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
from templates.soft.made import learnt, run_notes, worth
from templates.soft.methods import Method
from templates.soft.prompt import Prefix, SoftPrompt
from templates.soft.rows import Labelled, Row, rows_of
from templates.soft.run import Judging, Objective, Run
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
        tokens: P, of a prompt.
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
    def judges(self) -> dict[str, Judge]:
        """Of each task that has a dev set."""
        pairs, size = zip(self.placed, self.tasks, strict=True), self.settings.batch
        return {task.name: Judge(self.frozen, placed, task.dev, self._room, size) for placed, task in pairs if task.dev}

    def learn(
        self,
        module: nn.Module,
        rows: Sequence[Row],
        folder: Path | str | None,
        *,
        judge: Judging | None = None,
        objective: Objective | None = None,
    ) -> Run:
        """Train the module.

        Args:
            module: see `Run`.
            rows: of all tasks; they meet in the batches, each task in proportion to its examples.
            folder: for checkpoints.
            judge: where it is not the mean of the tasks' own ones.
            objective: see `Run`.
        """
        settings, method = self.settings, self.method
        data = [(task.template.verbalizer, its) for task, its in zip(self.tasks, self.rows, strict=True)]
        judged = {name: one.rows for name, one in self.judges.items()}
        judging = judge or self._mean if self.judges else None
        with self.frozen.held(recompute=settings.recompute):
            rate = settings.rate or method.rate
            run = Run(self.frozen, module, settings, rate, rows, judging, objective=objective)
            run.finish(folder, method, (data, judged))
        return run

    def devs(self, prompt: Tensor) -> dict[str, Dev]:
        """What a prompt is worth for each task that has a dev set.

        Args:
            prompt: [P, W] for all tasks, or [K·P, W], one for each.
        """
        its = torch.split(prompt.to(self.frozen.device), self.tokens)
        with self.frozen.held(), torch.no_grad():
            return {
                task.name: self.judges[task.name](its[number % len(its)])
                for number, task in enumerate(self.tasks)
                if task.name in self.judges
            }

    def made(self, run: Run, devs: Mapping[str, Dev]) -> dict[str, Any]:
        """Notes: on all tasks together, and where there are several also on each of them.

        Args:
            run: in which it was trained.
            devs: what it is worth for the tasks that have a dev set.
        """
        known = [example for task in self.tasks for example in task.examples]
        judged = [example for task in self.tasks for example in task.dev]
        notes = run_notes(run, self.method, self.tasks[0].template, known, judged)
        if len(self.tasks) == 1:
            return notes
        own = {
            task.name: {**learnt(task.template, task.examples), **worth(devs.get(task.name), task.dev)}
            for task in self.tasks
        }
        names = dict.fromkeys(task.template.name for task in self.tasks)
        del notes["wording"]  # each task has its own
        return {**notes, "template": ", ".join(names), "tasks": own}

    def _mean(self, prompt: Tensor) -> Dev:
        return Dev.mean(list(self.devs(prompt).values()))

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


def check(method: Method, frozen: Frozen, tasks: Sequence[Task], settings: Training) -> None:
    """Refuse what cannot be trained, before anything is.

    Raises:
        UserError: no tasks, two of one name, one without examples or with a prompt already; a method that the model or
            the settings do not take.
        Unsupported: see `Frozen.check_cache`.
    """
    name, names = type(method).__name__, [task.name for task in tasks]
    if not tasks:
        raise UserError("there are no tasks to train on")
    if len(set(names)) < len(names):
        raise UserError(f"tasks have names of their own, got {names}; give each its own")
    for task in tasks:
        if task.template.soft is not None:
            raise UserError(f"template {task.template.name!r} has a trained prompt already; train with soft=None")
        if not task.examples:
            raise UserError(f"there are no examples to train on for {task.name!r}; give some, with answers")
    if settings.recompute and method.kind is not SoftPrompt:
        raise UserError(
            f"{name} trains keys and values, which layers that run again (recompute) do not take; "
            "train it without, in smaller batches"
        )
    if method.kind not in frozen.kinds:
        raise UserError(
            f"{name} trains a {method.kind.__name__}, which {frozen.base.name!r} ({frozen.model.config.model_type}) "
            f"cannot take here; train {' or '.join(one.__name__ for one in frozen.kinds)}s"
        )
    if method.kind is Prefix:
        with frozen.held():
            frozen.check_cache()


def joint(tasks: Sequence[Task]) -> Template:
    """A template with what a prompt for all tasks begins with: soft slots of theirs, and the words of all labels.

    Raises:
        UserError: soft slots of two templates take different numbers of tokens.
    """
    templates = [task.template for task in tasks]
    slotted = [template for template in templates if template.soft_tokens]
    if len(counts := {template.soft_tokens for template in slotted}) > 1:
        raise UserError(
            f"one prompt stands in the soft slots of all tasks' templates, and these take {sorted(counts)} tokens; "
            "give them as many"
        )
    if len(templates) == 1:
        return templates[0]
    shown = [its[0] for template in templates if template.verbalizer for its in template.verbalizer.words.values()]
    words = {word.strip().casefold(): [word] for word in shown}
    return replace([*slotted, *templates][0], verbalizer=Verbalizer(words) if words else None)
