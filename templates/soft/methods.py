"""Ways to make a trained prompt: how many soft tokens, what they begin with, and what stands behind them in training.

Dimensions: P soft tokens, H hidden, L layers, K heads of keys and values, D head size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, get_args

from templates.errors import UserError
from templates.soft.prompt import Prefix, SoftPrompt, Trained
from templates.soft.start import Init, PrefixInit
from templates.template import Template

if TYPE_CHECKING:
    from torch import nn

    from templates.soft.frozen import Frozen


class Method(Protocol):
    """A way to make a trained prompt."""

    kind: ClassVar[type[Trained]]  # what comes out
    inits: ClassVar[tuple[str, ...]]  # what it may begin with

    @property
    def rate(self) -> float:
        """A learning rate that suits it."""
        ...

    def module(self, frozen: "Frozen", template: Template, seed: int, /) -> "nn.Module":
        """What is trained: called, it gives the prompt's rows, [P, H] or [P, L·2·K·D]."""
        ...


def _positive(method: object, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"{type(method).__name__} needs {name} ≥ 1, got {number}")


def _known(method: Method, init: str) -> None:
    if init not in method.inits:
        raise UserError(f"{type(method).__name__}'s init is one of {', '.join(method.inits)}, got {init!r}")


@dataclass(frozen=True)
class PromptTuning:
    """P vectors before the input, or in the template's soft slots (Lester et al. 2021, arXiv:2104.08691).

    Args:
        tokens: P; a template with soft slots says itself how many.
        init: see `templates.soft.start.words`.
        text: for init="text".
    """

    tokens: int = 20
    init: Init = "labels"
    text: str = ""
    kind: ClassVar[type[Trained]] = SoftPrompt
    inits: ClassVar[tuple[str, ...]] = get_args(Init)
    rate: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        """Refuse nothing to train."""
        _positive(self, tokens=self.tokens)
        _known(self, self.init)

    def module(self, frozen: "Frozen", template: Template, seed: int) -> "nn.Module":
        """The vectors themselves."""
        from templates.soft.modules import Direct
        from templates.soft.start import words

        count = template.soft_tokens or self.tokens
        return Direct(words(frozen, template, count, self.init, self.text, seed))


@dataclass(frozen=True)
class PTuning:
    """Soft tokens anywhere in the template, made by an encoder that lets them know of each other.

    Liu et al. 2021, arXiv:2103.10385, section 3.2; the encoder is dropped when the prompt is done. Unlike there, the
    encoder's answer is added to words, and its last layer begins at zero, so that training begins with a prompt
    of words and not with vectors of another size than the model's.

    Args:
        tokens: P, where the template has no soft slots.
        encoder: "mlp": H to H, ReLU, H to H; "lstm": as in the paper two layers in both directions, H/2 each, before
            it; that learns more slowly.
        init: the words.
        text: for init="text".
    """

    tokens: int = 20
    encoder: Literal["lstm", "mlp"] = "mlp"
    init: Init = "labels"
    text: str = ""
    kind: ClassVar[type[Trained]] = SoftPrompt
    inits: ClassVar[tuple[str, ...]] = get_args(Init)

    @property
    def rate(self) -> float:
        """Steps that an LSTM can take are smaller."""
        return 1e-2 if self.encoder == "mlp" else 3e-3

    def __post_init__(self) -> None:
        """Refuse nothing to train, and encoders that there are not."""
        _positive(self, tokens=self.tokens)
        _known(self, self.init)
        if self.encoder not in {"lstm", "mlp"}:
            raise UserError(f"PTuning's encoder is 'lstm' or 'mlp', got {self.encoder!r}")

    def module(self, frozen: "Frozen", template: Template, seed: int) -> "nn.Module":
        """Vectors behind an encoder."""
        from templates.soft.modules import Encoder
        from templates.soft.start import words

        count = template.soft_tokens or self.tokens
        start = words(frozen, template, count, self.init, self.text, seed)
        return Encoder(start, recurrent=self.encoder == "lstm", seed=seed)


@dataclass(frozen=True)
class PrefixTuning:
    """Keys and values of P tokens before everything, in every layer (Li & Liang 2021, arXiv:2101.00190).

    Args:
        tokens: P.
        init: "text": those that the model has for a text; "vocabulary": for sampled words; "random" and "zero", for
            comparison.
        text: for init="text".
        inner: width of the MLP (tanh) through which the prefix is trained, and which is dropped when it is done
            (section 4.3); 0 trains keys and values themselves, as `PTuningV2` does.
    """

    tokens: int = 20
    init: PrefixInit = "vocabulary"
    text: str = ""
    inner: int = 512
    kind: ClassVar[type[Trained]] = Prefix
    inits: ClassVar[tuple[str, ...]] = get_args(PrefixInit)

    def __post_init__(self) -> None:
        """Refuse nothing to train."""
        _positive(self, tokens=self.tokens)
        _known(self, self.init)
        if self.inner < 0:
            raise UserError(f"PrefixTuning needs inner ≥ 0, got {self.inner}")

    @property
    def rate(self) -> float:
        """Weights of an MLP take smaller steps than keys and values themselves."""
        return 1e-3 if self.inner else 0.03

    def module(self, frozen: "Frozen", _: Template, seed: int) -> "nn.Module":
        """Keys and values, behind an MLP or not."""
        from templates.soft.modules import Direct, Widened
        from templates.soft.start import keys_and_values

        start = keys_and_values(frozen, self.tokens, self.init, self.text, seed)
        parts = frozen.base.layers * 2
        if self.inner == 0:
            return Direct(start, parts)
        return Widened(start, parts, hidden=frozen.base.hidden, inner=self.inner, seed=seed)


@dataclass(frozen=True)
class PTuningV2:
    """Deep prompts: keys and values of P tokens in every layer, trained as they are.

    Liu et al. 2022, arXiv:2110.07602. Unlike prefix tuning there is no MLP. The answer is a label's word: of the two
    ways in section 3.3 the one that an engine can serve; for a classifier of its own see `templates.soft.heads`.

    Args:
        tokens: P; simple classification wants fewer than 20, hard sequence tasks around 100 (section 3.3).
        init: as in `PrefixTuning`.
        text: for init="text".
    """

    tokens: int = 20
    init: PrefixInit = "vocabulary"
    text: str = ""
    kind: ClassVar[type[Trained]] = Prefix
    inits: ClassVar[tuple[str, ...]] = get_args(PrefixInit)
    rate: ClassVar[float] = 0.03

    def __post_init__(self) -> None:
        """Refuse nothing to train."""
        _positive(self, tokens=self.tokens)
        _known(self, self.init)

    def module(self, frozen: "Frozen", _: Template, seed: int) -> "nn.Module":
        """Keys and values themselves."""
        from templates.soft.modules import Direct
        from templates.soft.start import keys_and_values

        return Direct(keys_and_values(frozen, self.tokens, self.init, self.text, seed), frozen.base.layers * 2)
