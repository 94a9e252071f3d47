"""How a LLaMA-Adapter begins, and what of it is trained.

Dimensions: M adapted layers, P soft tokens, H hidden, G gates of a layer.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from templates.errors import UserError
from templates.soft.frozen import Frozen
from templates.soft.gated.attention import attentions
from templates.soft.gated.value import GatedPrompt
from templates.soft.modules import Direct
from templates.soft.start import sampled, text_ids

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

    def module(self, frozen: Frozen, seed: int) -> "Gated":
        """Prompts and gates.

        Raises:
            UserError: more layers than the model has.
            Unsupported: a model whose attention is another.
        """
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


class Gated(nn.Module):
    """Prompts and gates of all adapted layers, as one vector.

    Args:
        start: [P, M·H].
        layers: M.
        gates: G.
    """

    def __init__(self, start: Tensor, layers: int, gates: int) -> None:
        super().__init__()
        self.prompts = Direct(start, layers)
        self.gates = nn.Parameter(torch.zeros(layers, gates))

    def forward(self) -> Tensor:
        """[P·M·H + M·G]."""
        return torch.cat([self.prompts().flatten(), self.gates.flatten()])

    def parts(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Prompts [M, P, H] and gates [M, G], of what was joined."""
        (layers, gates), (tokens, _) = self.gates.shape, self.prompts.start.shape
        prompts, factors = torch.split(joined, [joined.numel() - layers * gates, layers * gates])
        return prompts.view(tokens, layers, -1).transpose(0, 1), factors.view(layers, gates)


def heard(frozen: Frozen, ids: list[int], layers: int) -> Tensor:
    """What the topmost layers' projections are given for these tokens, [P, M·H]."""
    found: list[Tensor] = []
    handles = [
        attention.k_proj.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0][0]))
        for attention in attentions(frozen.model)[-layers:]
    ]
    try:
        with torch.no_grad():
            frozen.model(input_ids=torch.tensor([ids], device=frozen.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(found, 1).float().cpu()
