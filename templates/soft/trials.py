"""Which learning rate and which beginning: a few short trainings, and the best of them.

Both move a soft prompt's result more than anything else (Lester et al. 2021, sections 3.2 and 3.3).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from templates.errors import Diverged, UserError
from templates.soft.dev import Dev
from templates.soft.methods import Method
from templates.soft.rows import Labelled
from templates.soft.settings import Training
from templates.soft.training import train
from templates.template import Template

_FACTORS = (0.3, 1.0, 3.0)  # times the method's own rate
_STEPS = 60  # of a short training


@dataclass(frozen=True)
class Trial:
    """One short training, and what came of it; None where its loss became no number."""

    method: Method
    rate: float
    dev: Dev | None


def run_trials(
    method: Method,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Labelled],
    template: Template,
    *,
    dev: Sequence[Labelled],
    training: Training,
    folder: Path | None = None,
    loop: Callable[..., Any] = train,
) -> list[Trial]:
    """Short trainings with every beginning that suits, at three rates each; the best on the dev set comes first.

    Args:
        method: as in `train`; its own beginning is one of those that are tried.
        model: as in `train`.
        tokenizer: as in `train`.
        examples: as in `train`.
        template: as in `train`; where it has a verbalizer, prompts may begin with its labels.
        dev: on which they are compared.
        training: all its settings but steps and rate; a rate that it names is the middle one.
        folder: for checkpoints: what was tried is not tried again.
        loop: what trains the method, where that is not `train`.

    Raises:
        UserError: there is no dev set.
        Diverged: all of them did.
    """
    if not dev:
        raise UserError("trials compare prompts on a dev set, and there is none; give one, or choose rate and init")
    middle = training.rate or method.rate
    trials, diverged = list[Trial](), list[Diverged]()
    for one in beginnings(method, template):
        for rate in (factor * middle for factor in _FACTORS):
            short = replace(
                training, steps=min(_STEPS, training.steps), rate=rate, evaluate_every=_STEPS, keep_every=_STEPS
            )
            kept = folder / f"trial-{getattr(one, 'init', '')}-{rate:.3g}" if folder else None
            try:
                prompt = loop(one, model, tokenizer, examples, template, dev=dev, training=short, folder=kept)
                found = Dev(**prompt.made["dev"])
            except Diverged as error:
                found = None
                diverged.append(error)
            trials.append(Trial(one, rate, found))
    if len(diverged) == len(trials):
        raise diverged[0]
    return best_first(trials)


def beginnings(method: Method, template: Template) -> list[Method]:
    """The method as it is, and with each other beginning that suits; noise and zeros do not (see docs/soft_prompts.md).

    Labels need a verbalizer, text needs a text.
    """
    suits = {"labels": template.verbalizer is not None, "vocabulary": True, "text": bool(getattr(method, "text", ""))}
    own = getattr(method, "init", None)
    if own == "labels" and not suits["labels"]:  # it begins as the vocabulary does
        method, own = replace(method, init="vocabulary"), "vocabulary"  # type: ignore[type-var]  # methods are dataclasses
    others = [init for init in method.inits if suits.get(init, False) and init != own]
    return [method, *(replace(method, init=init) for init in others)]  # type: ignore[type-var]  # methods are dataclasses


def best_first(trials: Iterable[Trial]) -> list[Trial]:
    """By dev score, then by dev loss; of equals the one that was tried first. Those that diverged come last."""
    return sorted(trials, key=lambda trial: (-trial.dev.score, trial.dev.loss) if trial.dev else (1.0, 0.0))
