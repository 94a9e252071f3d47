"""A training of few steps, of each method, on one episode of the labels' world."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from eval.worlds import labels
from icl import Example
from templates.soft import Method, PrefixTuning, PromptTuning, PTuning, PTuningV2, Training
from templates.soft.run import Run

Found = TypeVar("Found")

METHODS: list[Method] = [
    PromptTuning(4),
    PTuning(4, encoder="lstm"),
    PTuning(4),
    PrefixTuning(4),
    PTuningV2(4),
]
FEW = Training(steps=4, batch=4, warmup=1, evaluate_every=2, keep_every=2)
EPISODE = labels.Episode(3)


def some(size: int, *, held_out: bool = False) -> list[Example]:
    """Examples of the episode."""
    return list(labels.split(3, size, held_out=held_out))


def resumed(train: Callable[..., Found], folder: Path) -> Found:
    """What comes of a training of six steps that is stopped at the end of its fourth, and begun again.

    Its checkpoint is of the second step: the second run must do the third to the sixth, and no others.

    Args:
        train: takes `folder`; keeps a checkpoint every second step.
        folder: for checkpoints.
    """
    with steps(stop=4) as ran:
        with pytest.raises(KeyboardInterrupt):
            train(folder=folder)
        found = train(folder=folder)
    assert ran == [1, 2, 3, 4, 3, 4, 5, 6]
    return found


@contextmanager
def steps(stop: int = 0) -> Iterator[list[int]]:
    """The numbers of the steps that are done within; the one that is done as so many-th is interrupted at its end."""
    step, ran = Run.step, list[int]()

    def counted(run: Run) -> float:
        loss = step(run)
        ran.append(run.done)
        if len(ran) == stop:
            raise KeyboardInterrupt
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "step", counted)
        yield ran
