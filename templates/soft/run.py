"""The one loop in which prompts are trained.

It trains a module that gives the prompt when it is called, several tensors by their names, or None where weights of the
model itself are trained.

Dimensions: P soft tokens, W numbers of one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from templates.errors import Diverged
from templates.soft import checkpoint
from templates.soft.dev import Dev
from templates.soft.devices import devices
from templates.soft.frozen import Frozen
from templates.soft.identity import identity_of
from templates.soft.rows import Row, epoch, groups
from templates.soft.settings import Training

Objective = Callable[..., Tensor]  # rows, and by name what the module gives, to their summed loss
Judging = Callable[..., Dev]  # by name what the module gives, to its worth


@dataclass
class Best:
    """The best so far.

    Args:
        step: when it was.
        dev: how good.
        found: the prompt [P, W] as "prompt", all that the module gives, or weights by their names in the module.
    """

    step: int
    dev: Dev
    found: dict[str, Tensor]


class Run:
    """A training in progress.

    Args:
        frozen: the model.
        module: what is trained; called, it gives the prompt, a mapping with "prompt" and more, or None where it holds
            weights of the model itself.
        settings: how.
        rate: the highest learning rate.
        rows: what is learnt.
        judge: of what is found on the way, or None.
        objective: the loss, where it is not the answers' cross-entropy with that prompt.
    """

    def __init__(
        self,
        frozen: Frozen,
        module: nn.Module,
        settings: Training,
        rate: float,
        rows: Sequence[Row],
        judge: Judging | None,
        *,
        objective: Objective | None = None,
    ) -> None:
        self.frozen, self.module, self.settings, self.rate = frozen, module, settings, rate
        self.judge, self.objective, self.devices = judge, objective or self._summed, devices()
        self.optimizer = settings.optimizer_of(list(module.parameters()), rate)
        self.best: Best | None = None
        self.done = self.waited = 0  # steps; looks at the dev set without a better one
        self._whole = math.ceil(len(rows) / settings.batch)  # batches of an epoch
        self._epoch = lru_cache(1)(lambda number: epoch(rows, settings.batch, f"{settings.seed}/{number}"))

    def finish(self, folder: Path | str | None, method: object, data: object) -> None:
        """Train to the end, from where the folder's checkpoint is.

        Args:
            folder: for checkpoints, or None.
            method: see `identity_of`.
            data: see `identity_of`.

        Raises:
            RunMismatch: the folder has the checkpoint of another training.
        """
        from tqdm import tqdm

        identity: dict[str, str] = {}
        if folder:
            folder = Path(folder)
            folder.mkdir(parents=True, exist_ok=True)
            identity = identity_of(method, self.settings, self.rate, data, self.frozen)
            self._restore(checkpoint.kept(folder, identity))
        settings = self.settings
        silent = None if self.devices.first else True  # None: where there is no terminal
        with tqdm(total=settings.steps, initial=self.done, desc="steps", leave=False, delay=1, disable=silent) as bar:
            while self.done < settings.steps and not self._waited_enough:
                loss = self.step()
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", **({"dev": self.best.dev} if self.best else {}), refresh=False)
                last = self.done == settings.steps
                if self.judge and (self.done % settings.evaluate_every == 0 or last):
                    self._judge(self.judge)
                due = self.done % settings.keep_every == 0 or last or self._waited_enough
                if folder and due and self.devices.first:
                    checkpoint.keep(folder, self._state(), identity)

    def step(self) -> float:
        """One step of the optimizer; the mean loss of an answer's token before it.

        What stands behind the prompt runs once, however many batches there are. A batch runs in groups of like length,
        and where several devices train, each runs its share of it.
        """
        self.optimizer.zero_grad()
        made = self._made()
        leaves = {name: one.detach().requires_grad_() for name, one in made.items()}
        first = self.done * self.settings.accumulate
        batches = [self._batch(first + number) for number in range(self.settings.accumulate)]
        total, tokens = 0.0, sum(row.answer for batch in batches for row in batch)
        for some in (some for batch in batches for some in groups(self.devices.share(batch))):
            loss = self.objective(some, **leaves) / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        total = self._together(total, list(leaves.values()) or list(self.module.parameters()))
        self._check(total)
        if made:
            torch.autograd.backward(list(made.values()), [leaf.grad for leaf in leaves.values()])
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip or math.inf)
        self._check(norm.item())
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate_at(self.done, self.rate)
        self.optimizer.step()
        self.done += 1
        return total

    def _summed(self, rows: Sequence[Row], prompt: Tensor | None = None) -> Tensor:
        return self.frozen.loss(self.frozen.batch(rows), prompt)

    def _together(self, loss: float, learning: Sequence[Tensor]) -> float:
        """The loss of all devices, whose gradients are summed in place."""
        if self.devices.count == 1:
            return loss
        total = torch.tensor(loss, dtype=torch.float64, device=self.frozen.device)
        grads = []
        for one in learning:
            one.grad = torch.zeros_like(one) if one.grad is None else one.grad  # of an empty share there is none
            grads.append(one.grad)
        self.devices.summed([total, *grads])
        return total.item()

    def found(self) -> dict[str, Tensor]:
        """The best, or the last where none was judged; see `Best`."""
        return self.best.found if self.best else self._now()

    @property
    def found_at(self) -> int:
        """The step of what was found."""
        return self.best.step if self.best else self.done

    @property
    def found_dev(self) -> Dev | None:
        """How good it is, where there is a dev set."""
        return self.best.dev if self.best else None

    @property
    def size(self) -> int:
        """How many numbers learn."""
        return sum(weight.numel() for weight in self.module.parameters())

    def _now(self) -> dict[str, Tensor]:
        with torch.no_grad():
            made = self._made()
        if made:
            return {name: one.float().cpu() for name, one in made.items()}
        return {name: weight.detach().to("cpu", copy=True) for name, weight in self.module.state_dict().items()}

    def _made(self) -> dict[str, Tensor]:
        """What the module gives, by name; nothing where it holds weights of the model itself."""
        made: Tensor | dict[str, Tensor] | None = self.module()
        return {} if made is None else {"prompt": made} if isinstance(made, Tensor) else made

    def _batch(self, number: int) -> Sequence[Row]:
        return self._epoch(number // self._whole)[number % self._whole]

    def _judge(self, judge: Judging) -> None:
        with torch.no_grad():
            dev = judge(**self._made())
        # What is best, and when to stop, the first device says: others may differ in the last bit.
        dev = Dev(*self.devices.as_the_first([dev.score, dev.loss], self.frozen.device))
        if self.best is None or dev.better_than(self.best.dev):
            self.best, self.waited = Best(self.done, dev, self._now()), 0
        else:
            self.waited += 1

    @property
    def _waited_enough(self) -> bool:
        return 0 < self.settings.patience <= self.waited

    def _check(self, number: float) -> None:
        if not math.isfinite(number):
            raise Diverged(
                f"at step {self.done + 1} the loss or its gradient is {number}; lower the learning rate "
                f"({self.rate:g}) or lengthen the warm-up ({self.settings.warmup} steps), or train in float32, in "
                "another folder for checkpoints; one that was kept is of an earlier step, and good"
            )

    def _state(self) -> dict[str, Any]:
        best = {**asdict(self.best.dev), "step": self.best.step, "found": self.best.found} if self.best else None
        return {
            "done": self.done,
            "waited": self.waited,
            "best": best,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _restore(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        self.done, self.waited = state["done"], state["waited"]
        if best := state["best"]:
            self.best = Best(best.pop("step"), found=best.pop("found"), dev=Dev(**best))
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
