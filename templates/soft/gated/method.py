"""How a LLaMA-Adapter begins, and what of it is trained.

Dimensions: M adapted layers, P soft tokens, H hidden.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from templates.errors import UserError
from templates.soft.gated.value import GatedPrompt

if TYPE_CHECKING:
    from templates.soft.frozen import Frozen
    from templates.soft.gated.modules import Gated

GatedInit = Literal["vocabulary", "text", "random"]


@dataclass(frozen=True)
class LlamaAdapter:
    """P soft tokens for each of the topmost layers, behind gates that are zero at first.

    Zhang et al. 2023, arXiv:2303.16199, section 3.1 and 3.2. Gates are factors as they are, as in PEFT; the authors'
    code has tanh before them. Measured as `templates.soft.baselines.methods` are, in 100 steps on three worlds of
    labels: "random" 98 % to 100 % with a rate of 0.03, "vocabulary" 90 % to 99 %.

    Args:
        tokens: P; the paper's is 10.
        layers: M; by default the paper's 30 of 32, in smaller models all of them.
        per_head: a gate for each head, as in the paper; PEFT has, and loads, one for each layer.
        init: "random": drawn from a normal distribution, as in the paper; "vocabulary": what each layer has for sampled
            words; "text": for a text, again and again.
        text: for init="text".
    """

    tokens: int = 10
    layers: int | None = None
    per_head: bool = False
    init: GatedInit = "random"
    text: str = ""
    kind: ClassVar[type[GatedPrompt]] = GatedPrompt
    inits: ClassVar[tuple[str, ...]] = get_args(GatedInit)
    rate: ClassVar[float] = 0.03

    def __post_init__(self) -> None:
        """Refuse nothing to train."""
        if self.tokens < 1 or (self.layers is not None and self.layers < 1):
            raise UserError(f"LlamaAdapter needs tokens ≥ 1 and layers ≥ 1, got {self.tokens} and {self.layers}")
        if self.init not in self.inits:
            raise UserError(f"LlamaAdapter's init is one of {', '.join(self.inits)}, got {self.init!r}")

    def module(self, frozen: "Frozen", seed: int) -> "Gated":
        """Prompts and gates.

        Raises:
            UserError: more layers than the model has.
            Unsupported: a model whose attention is another.
        """
        import torch

        from templates.soft.gated.attention import attentions
        from templates.soft.gated.modules import Gated, heard
        from templates.soft.start import sampled, text_ids

        there = len(attentions(frozen.model))
        layers = self.layers or there - there // 16
        if layers > there:
            raise UserError(f"LlamaAdapter was to adapt {layers} layers, and {frozen.base.name!r} has {there}")
        if self.init == "random":
            shape = (self.tokens, layers * frozen.base.hidden)
            start = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        else:
            ids = text_ids(frozen.tokenizer, self.text) if self.init == "text" else sampled(frozen, self.tokens, seed)
            start = heard(frozen, [ids[place % len(ids)] for place in range(self.tokens)], layers)
        return Gated(start, layers, frozen.base.heads if self.per_head else 1)
