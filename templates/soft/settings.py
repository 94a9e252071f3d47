"""How a prompt is trained: steps, batches, learning rates."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from templates.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


@dataclass(frozen=True)
class Training:
    """How a prompt is trained; every method's default rate goes with these settings.

    Args:
        steps: of the optimizer, at the most.
        batch: rows that run at once.
        accumulate: batches of a step.
        rate: the learning rate, in units of the numbers that a prompt begins with; None is the method's own.
        optimizer: "adamw" or "adafactor" (as Lester et al. 2021: no scaling by parameters), both without decay, which
            would pull a prompt towards what it began with.
        schedule: "constant", "linear" (down to zero) or "cosine", after the warm-up.
        warmup: steps on which the rate rises.
        clip: longest gradient that is not shortened; 0 shortens none.
        evaluate_every: steps between two looks at the dev set.
        patience: looks without a better one after which training stops; 0 never stops.
        keep_every: steps between two checkpoints.
        recompute: activations are computed twice instead of kept (gradient checkpointing): less memory, more time.
        seed: of batches and of all that is drawn.
    """

    steps: int = 1000
    batch: int = 16
    accumulate: int = 1
    rate: float | None = None
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: int = 20
    clip: float = 1.0
    evaluate_every: int = 50
    patience: int = 0
    keep_every: int = 50
    recompute: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for name in ("steps", "batch", "accumulate", "evaluate_every", "keep_every"):
            if getattr(self, name) < 1:
                raise UserError(f"a training needs {name} ≥ 1, got {getattr(self, name)}")
        for name in ("warmup", "clip", "patience"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"a training needs {name} ≥ 0, got {getattr(self, name)}")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise UserError(f"a learning rate is a positive number, got {self.rate}")
        for name, known in (("optimizer", _OPTIMIZERS), ("schedule", _SCHEDULES)):
            if getattr(self, name) not in known:
                raise UserError(f"{name} is one of {', '.join(known)}, got {getattr(self, name)!r}")

    def rate_at(self, step: int, highest: float) -> float:
        """The learning rate of a step."""
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return highest * ((step + 1) / self.warmup if step < self.warmup else _SCHEDULES[self.schedule](done))

    def optimizer_of(self, parameters: "list[nn.Parameter]", rate: float) -> "Optimizer":
        """The optimizer of these parameters."""
        return _OPTIMIZERS[self.optimizer](parameters, rate)


_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 + 0.5 * math.cos(math.pi * done),
}


def _adamw(parameters: "list[nn.Parameter]", rate: float) -> "Optimizer":
    import torch

    return torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)


def _adafactor(parameters: "list[nn.Parameter]", rate: float) -> "Optimizer":
    from transformers.optimization import Adafactor

    made: Optimizer = Adafactor(parameters, lr=rate, scale_parameter=False, relative_step=False)
    return made


_OPTIMIZERS: "dict[str, Callable[[list[nn.Parameter], float], Optimizer]]" = {
    "adamw": _adamw,
    "adafactor": _adafactor,
}
