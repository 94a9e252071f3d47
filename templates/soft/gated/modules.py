"""What is trained of a LLaMA-Adapter: prompts and gates of all adapted layers.

Dimensions: M adapted layers, P soft tokens, H hidden, G gates of a layer.
"""

import torch
from torch import Tensor, nn

from templates.soft.frozen import Frozen
from templates.soft.gated.attention import attentions
from templates.soft.modules import Direct


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
