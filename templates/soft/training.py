"""Training a prompt for a model that stays as it is: one loop, whatever the method.

The loop trains a module that gives the prompt when it is called, or None where weights of the model itself are trained.

Dimensions: P soft tokens, W numbers of one.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from templates.errors import Diverged, UserError
from templates.soft import checkpoint
from templates.soft.dev import Dev, Judge
from templates.soft.families import frozen_of
from templates.soft.frozen import Frozen
from templates.soft.made import cost, made_of, worth
from templates.soft.methods import Method
from templates.soft.prompt import SoftPrompt, Trained
from templates.soft.rows import Labelled, Row, epoch, rows_of
from templates.soft.settings import Training
from templates.template import Template


def train(
    method: Method,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Labelled],
    template: Template,
    *,
    dev: Sequence[Labelled] = (),
    training: Training | None = None,
    folder: Path | str | None = None,
) -> Trained:
    """Train a prompt on the examples. The model's weights stay as they are, to the bit.

    Args:
        method: what is trained: `PromptTuning()`, `PTuning()`, `PrefixTuning()`, …
        model: of transformers: a causal or a masked language model, or an encoder with a decoder.
        tokenizer: its own.
        examples: with answers; what the prompt is to bring the model to say.
        template: how questions and answers are worded; with soft slots the soft prompt stands there, else in front.
        dev: examples on which prompts are compared; the best one comes back. Without any it is the last one.
        training: how.
        folder: for checkpoints; a training that was stopped there goes on, and ends as if it had not been.

    Returns:
        The prompt; `made` says how it came about. It runs on any backend: `replace(template, soft=prompt)`.

    Raises:
        DataError: an example without an answer, with an unknown label, or without room in the context; names it.
        Diverged: the loss is not a number; says what to lower. The last checkpoint is good.
        RunMismatch: the folder has the checkpoint of another training.
    """
    settings = training or Training()
    frozen = frozen_of(model, tokenizer)
    if template.soft is not None:
        raise UserError(f"template {template.name!r} has a trained prompt already; train with soft=None")
    if not examples:
        raise UserError("there are no examples to train on")
    if settings.recompute and method.kind is not SoftPrompt:
        raise UserError(
            f"{type(method).__name__} trains keys and values, which layers that run again (recompute) do not take; "
            "train it without, in smaller batches"
        )
    if method.kind not in frozen.kinds:
        raise UserError(
            f"{type(method).__name__} trains a {method.kind.__name__}, which {frozen.base.name!r} "
            f"({model.config.model_type}) cannot take here; train {' or '.join(one.__name__ for one in frozen.kinds)}s"
        )
    module = method.module(frozen, template, settings.seed).to(frozen.device)
    tokens = len(module())
    placed, room = _placed(method, frozen, template, tokens)
    rows = rows_of(frozen, placed, examples, room)
    judge = Judge(frozen, placed, dev, room, settings.batch) if dev else None
    with frozen.held(recompute=settings.recompute):
        run = Run(frozen, module, settings, settings.rate or method.rate, rows, judge)
        run.finish(Path(folder) if folder else None, identity=identity_of(method, settings, placed, rows, frozen))
    vectors = run.found()["prompt"].numpy()
    made = made_of(method, settings, template, examples, run.best.step if run.best else run.done)
    judged = worth(run.best.dev if run.best else None, dev)
    return method.kind(vectors, frozen.base, {**made, **judged, **cost(vectors.size, frozen.size)})


@dataclass
class Best:
    """The best so far.

    Args:
        step: when it was.
        dev: how good.
        found: the prompt [P, W] as "prompt", or the weights by their names in the module.
    """

    step: int
    dev: Dev
    found: dict[str, Tensor]


class Run:
    """A training in progress.

    Args:
        frozen: the model.
        module: what is trained; called, it gives the prompt, or None where it holds weights of the model itself.
        settings: how.
        rate: the highest learning rate.
        rows: what is learnt.
        judge: of what is found on the way, or None.
    """

    def __init__(
        self,
        frozen: Frozen,
        module: nn.Module,
        settings: Training,
        rate: float,
        rows: Sequence[Row],
        judge: Judge | None,
    ) -> None:
        self.frozen, self.module, self.settings, self.rate = frozen, module, settings, rate
        self.judge = judge
        self.optimizer = settings.optimizer_of(list(module.parameters()), rate)
        self.best: Best | None = None
        self.done = self.waited = 0  # steps; looks at the dev set without a better one
        self._epoch = lru_cache(1)(lambda number: epoch(rows, settings.batch, f"{settings.seed}/{number}"))

    def finish(self, folder: Path | None, identity: str) -> None:
        """Train to the end, from where the folder's checkpoint of that identity is."""
        from tqdm import tqdm

        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            self._restore(checkpoint.kept(folder, identity))
        settings = self.settings
        with tqdm(total=settings.steps, initial=self.done, desc="steps", leave=False, delay=1.0, disable=None) as bar:
            while self.done < settings.steps and not self._waited_enough:
                loss = self.step()
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", **({"dev": self.best.dev} if self.best else {}), refresh=False)
                last = self.done == settings.steps
                if self.judge and (self.done % settings.evaluate_every == 0 or last):
                    self._judge(self.judge)
                if folder and (self.done % settings.keep_every == 0 or last or self._waited_enough):
                    checkpoint.keep(folder, self._state(), identity)

    def step(self) -> float:
        """One step of the optimizer; the mean loss of an answer's token before it.

        What stands behind the prompt runs once, however many batches there are.
        """
        self.optimizer.zero_grad()
        prompt: Tensor | None = self.module()
        leaf = None if prompt is None else prompt.detach().requires_grad_()
        first = self.done * self.settings.accumulate
        batches = [self._batch(first + number) for number in range(self.settings.accumulate)]
        total, tokens = 0.0, sum(row.answer for batch in batches for row in batch)
        for batch in batches:
            loss = self.frozen.loss(self.frozen.batch(batch), leaf) / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        self._check(total)
        if prompt is not None and leaf is not None:
            prompt.backward(leaf.grad)  # type: ignore[no-untyped-call]
        if self.settings.clip:
            norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip)
            self._check(norm.item())
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate_at(self.done, self.rate)
        self.optimizer.step()
        self.done += 1
        return total

    def found(self) -> dict[str, Tensor]:
        """The best, or the last where none was judged: the prompt [P, W] as "prompt", or weights by their names."""
        return self.best.found if self.best else self._now()

    def _now(self) -> dict[str, Tensor]:
        with torch.no_grad():
            prompt: Tensor | None = self.module()
        if prompt is not None:
            return {"prompt": prompt.float().cpu()}
        return {name: weight.detach().to("cpu", copy=True) for name, weight in self.module.state_dict().items()}

    def _batch(self, number: int) -> Sequence[Row]:
        whole = len(self._epoch(0))
        return self._epoch(number // whole)[number % whole]

    def _judge(self, judge: Judge) -> None:
        with torch.no_grad():
            dev = judge(self.module())
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
                f"({self.rate:g}) or lengthen the warm-up ({self.settings.warmup} steps), or train in float32; a "
                "checkpoint that was kept is of an earlier step, and good"
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


def _placed(method: Method, frozen: Frozen, template: Template, tokens: int) -> tuple[Template, int]:
    """The template with soft tokens where the prompt's will stand, and the tokens that a row may have."""
    if method.kind is SoftPrompt:
        blank = SoftPrompt(np.zeros((tokens, frozen.base.hidden)), frozen.base)
        return replace(template, soft=blank), frozen.context
    if template.soft_tokens:
        raise UserError(
            f"template {template.name!r} has soft slots, and {type(method).__name__} trains keys and values, which "
            "stand before everything; take the slots out of its text"
        )
    return template, frozen.context - tokens


def identity_of(method: object, settings: Training, template: Template, rows: Sequence[Row], frozen: Frozen) -> str:
    """Which training it is: one that goes on must have begun with the same."""
    digest = blake2b(repr((template.text, template.response, rows)).encode(), digest_size=8).hexdigest()
    return f"{method} {settings} data {digest} model {frozen.base.name} {frozen.base.weights}"
