"""Ways to train weights of the model itself, for comparison with prompts that leave it as it is.

Each takes the data, template, batches, dev set and settings that a prompt takes; what differs is which weights learn.
Their learning rates are in the weights' own units. Defaults were measured on the bundled model (0.9 million weights)
with `icl tune METHOD --task labels --labels data --steps 200`, where a guess is right in 25 %; each docstring says what
came out on the 125 examples of the dev set. Larger models take smaller steps: give `--rate`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from templates.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class Begun:
    """A model that is ready to be trained.

    Args:
        weights: those of it that learn.
        adapter: PEFT's model around it, where they are an adapter's.
    """

    weights: "list[nn.Parameter]"
    adapter: Any = None


@runtime_checkable
class Baseline(Protocol):
    """A way to train weights of the model itself."""

    rate: ClassVar[float]  # a learning rate that suits it

    def begin(self, model: Any, seed: int, /) -> Begun:
        """Say which weights learn, adding them to the model where they are new; at first it says what it said."""
        ...


@dataclass(frozen=True)
class LoRA:
    """W + alpha/rank · B·A in the place of each linear layer's W, B zero at first (Hu et al. 2021, arXiv:2106.09685).

    Measured: 94 %, 100 % and 100 % right with rates 5e-4, 2e-3 and 5e-3; with billions of weights 2e-4 is usual.

    Args:
        rank: rows of A, columns of B.
        alpha: how much they count.
        targets: names of the layers, in PEFT's way; "all-linear" is all but the output layer.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: str | tuple[str, ...] = "all-linear"
    rate: ClassVar[float] = 2e-3

    def __post_init__(self) -> None:
        """Refuse nothing to train."""
        if self.rank < 1 or self.alpha <= 0:
            raise UserError(f"LoRA needs rank ≥ 1 and alpha > 0, got {self.rank} and {self.alpha}")

    def begin(self, model: Any, seed: int) -> Begun:
        """Layers with A and B beside them."""
        from templates.soft.baselines.adapters import adapted

        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        settings = {"r": self.rank, "lora_alpha": self.alpha, "target_modules": targets, "lora_dropout": 0.0}
        return adapted(model, "LoraConfig", settings, seed)


@dataclass(frozen=True)
class IA3:
    """Learnt factors for keys, values and the inner width of feed-forward layers, all one at first.

    Liu et al. 2022, arXiv:2205.05638, section 3.3. Measured: 78 %, 100 % and 100 % right with rates 0.03, 0.1 and 0.2.

    Args:
        targets: names of the layers, in PEFT's way; none: PEFT's own choice for the model's type.
        feedforward: those of them whose input is scaled, and not their output.
    """

    targets: tuple[str, ...] = ()
    feedforward: tuple[str, ...] = ()
    rate: ClassVar[float] = 0.1

    def begin(self, model: Any, seed: int) -> Begun:
        """Layers with factors beside them."""
        from templates.soft.baselines.adapters import adapted

        own = {"target_modules": list(self.targets), "feedforward_modules": list(self.feedforward)}
        return adapted(model, "IA3Config", own if self.targets else {}, seed)


@dataclass(frozen=True)
class BitFit:
    """The bias terms alone (Ben Zaken et al. 2021, arXiv:2106.10199).

    Measured: 62 %, 76 % and 76 % right with rates 0.03, 0.05 and 0.1; in 400 steps 90 % with 0.05.
    """

    rate: ClassVar[float] = 0.05

    def begin(self, model: Any, _: int) -> Begun:
        """The biases.

        Raises:
            UserError: the model has none.
        """
        weights = [weight for name, weight in model.named_parameters() if name.endswith("bias")]
        if not weights:
            raise UserError(
                f"BitFit trains bias terms, and {model.name_or_path!r} ({model.config.model_type}) has none; take "
                "lora or ia3, which add few weights too, or a model with biases"
            )
        return Begun(weights)


@dataclass(frozen=True)
class Full:
    """All weights, embeddings and output layer too: for memory, four numbers of each, and as many in a checkpoint.

    Measured: 100 % right with each of the rates 3e-4, 1e-3 and 3e-3; with billions of weights 1e-5 is usual.
    """

    rate: ClassVar[float] = 3e-4

    def begin(self, model: Any, _: int) -> Begun:
        """All of them; shared ones once."""
        return Begun(list(model.parameters()))


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on what the output layer is given where the answer begins; the model is frozen.

    Alain & Bengio 2016, arXiv:1610.01644. It knows labels and no words, so that it serves comparison alone. Measured:
    100 % right.

    Args:
        strengths: how strongly small weights are preferred, 1/C; the best one on the dev set is taken, without one the
            middle one.
    """

    strengths: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)

    def __post_init__(self) -> None:
        """Refuse no strength at all."""
        if not self.strengths or min(self.strengths) <= 0:
            raise UserError(f"LinearProbe needs strengths > 0, got {self.strengths}")
