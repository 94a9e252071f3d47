"""How the tiny Llama looks, and what it reads in which order.

Dimensions: B documents of a batch, T tokens of a document.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from eval.worlds.documents import FIRST, SHARES, THEN
from templates.errors import UserError

CONTEXT = 1024  # positions of the model


@dataclass(frozen=True)
class Phase:
    """Steps with batches of one shape, made of documents of these kinds."""

    steps: int
    documents: int  # B
    tokens: int  # T
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)


@dataclass(frozen=True)
class Recipe:
    """How model and training look.

    Args:
        hidden: width of the model.
        layers: its depth.
        heads: of attention; a head is hidden / heads wide.
        kv_heads: heads of keys and values.
        inner: width of the layers between.
        vocabulary: tokens, at the most.
        phases: to look for what is alike comes before everything else (`FIRST`, `THEN`); short documents, many small
            steps of them, before long ones: what to look at is learnt sooner there.
        rate: the highest learning rate.
        initial: standard deviation of the random weights, about hidden^-½. At transformers' own 0.02, which suits wide
            models, the attention of a narrow one stays even for thousands of steps.
        near: size of the bias by which attention in the lower half of the layers begins with what stands near.
        warmup: steps up to it; from there it falls in a cosine to a hundredth.
        seed: of the weights and of the documents.
    """

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    inner: int = 384
    vocabulary: int = 1024
    phases: tuple[Phase, ...] = (
        Phase(1500, 32, 32, FIRST),
        Phase(3000, 16, 64, THEN),
        Phase(6000, 8, 128),
        Phase(6000, 8, 256),
        Phase(3000, 4, CONTEXT),
    )
    rate: float = 3e-3
    initial: float = 0.08
    near: float = 2.0
    warmup: int = 200
    seed: int = 0

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase(self, step: int) -> Phase:
        """The phase of a step."""
        passed = 0
        for phase in self.phases:
            passed += phase.steps
            if step < passed:
                return phase
        raise UserError(f"the recipe has {self.steps} steps, so there is no step {step}")

    def rate_at(self, step: int) -> float:
        """The learning rate: up in a line, down in a cosine."""
        up = min(1.0, (step + 1) / self.warmup)
        return self.rate * up * (0.505 + 0.495 * math.cos(math.pi * step / self.steps))
