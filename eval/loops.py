"""What `icl tune` does with a method: the loop that trains it, short trials before that, and what came of it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from eval.folder import RunFolder
from eval.listed import Listed, in_folder
from eval.terminal import show
from icl.example import Example
from templates.errors import UserError
from templates.soft import Prefix, Training, train
from templates.soft.baselines import Baseline, LinearProbe, finetune, probe
from templates.soft.devices import devices
from templates.soft.gated import LlamaAdapter, train_adapter
from templates.soft.heads import train_classifier
from templates.soft.trials import run_trials
from templates.template import Template

Loop = Callable[..., Any]  # called as `train` is; what it gives has `save`


@dataclass(frozen=True)
class Material:
    """What a loop is given besides method and settings.

    Args:
        model: with its tokenizer.
        learnt: examples.
        judged: those of the dev set.
        worded: their template.
        data: where they are from, for the notes.
        folder: for checkpoints.
    """

    model: tuple[Any, Any]
    learnt: Sequence[Example]
    judged: Sequence[Example]
    worded: Template
    data: str
    folder: Path

    def given_to(self, work: Loop, method: Any, training: Training, **more: Any) -> Any:
        """What a loop, or trials of one, make of it."""
        data = (*self.model, self.learnt, self.worded)
        return work(method, *data, dev=self.judged, training=training, folder=self.folder, **more)


def alone(method: Any, checkpoints: Path) -> AbstractContextManager[None]:
    """Hold the folder of checkpoints: a second training there is refused, but for other devices of the same one."""
    keeps = devices().first and not isinstance(method, LinearProbe)
    return RunFolder(checkpoints).locked() if keeps else nullcontext()


def loop_of(method: Any, *, classifier: bool) -> Loop:
    """What trains the method, alone or with a classifier.

    Raises:
        UserError: there is no classifier behind what it trains.
    """
    if classifier and getattr(method, "kind", None) is not Prefix:
        raise UserError(
            "--classifier reads behind keys and values of every layer, and "
            f"{type(method).__name__} trains none; take prefix-tuning or p-tuning-v2, or leave it out"
        )
    if isinstance(method, LinearProbe):
        return _probed
    if isinstance(method, Baseline):
        return finetune
    if isinstance(method, LlamaAdapter):
        return train_adapter
    return train_classifier if classifier else train


def tried(loop: Loop, method: Any, material: Material, training: Training) -> tuple[Any, Training]:
    """The method and the settings that did best in short trials; what was tried is shown.

    Raises:
        UserError: there is no dev set, or the method begins with nothing that could be chosen.
    """
    from rich.table import Table

    if isinstance(method, Baseline | LinearProbe):
        raise UserError(f"--auto tries what prompts begin with, and {type(method).__name__} trains none; leave it out")
    trials = material.given_to(run_trials, method, training, loop=loop)
    if devices().first:  # all of them found the same
        table = Table("init", "rate", "dev")
        for trial in trials:
            table.add_row(getattr(trial.method, "init", ""), f"{trial.rate:.3g}", str(trial.dev or "diverged"))
        show(table, aside=True)
    return trials[0].method, replace(training, rate=trials[0].rate)


def trained(loop: Loop, method: Any, material: Material, training: Training, out: Path) -> Listed:
    """Train with the method, save it, and say what there is now."""
    found = material.given_to(loop, method, training)
    if not devices().first:
        raise typer.Exit  # the first process writes what all of them found
    noted = replace(found, made={**found.made, "data": material.data})
    return in_folder(noted.save(out))


def _probed(  # it is solved in one go, and keeps no checkpoints
    method: LinearProbe,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    template: Template,
    *,
    dev: Sequence[Example],
    training: Training,
    folder: Path,  # noqa: ARG001
) -> Any:
    return probe(method, model, tokenizer, examples, template, dev=dev, training=training)
