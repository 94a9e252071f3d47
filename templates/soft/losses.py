"""Cross-entropy of tokens, piece by piece: the logits of all of them are never there at once.

Dimensions: A answer tokens of a batch, H hidden, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

_LOGITS = 2**25  # of them at once: 128 MiB in float32


def token_losses(
    hidden: Tensor, targets: Tensor, logits: Callable[[Tensor], Tensor], vocabulary: int, learning: Sequence[Tensor]
) -> Tensor:
    """Cross-entropy of each token, [A] float32.

    Args:
        hidden: what the output layer is given, [A, H].
        targets: [A].
        logits: of some of `hidden`, [·, V] float32.
        vocabulary: V.
        learning: weights of the output layer that learn; where there are any, all tokens' losses weigh the same.
    """
    losses: Tensor = _Losses.apply(hidden, targets, logits, vocabulary, *learning)  # type: ignore[no-untyped-call]
    return losses


def pieces(hidden: Tensor, targets: Tensor, vocabulary: int) -> Iterator[tuple[Tensor, Tensor]]:
    """States and targets of so many answer tokens at a time as may have their logits at once."""
    size = max(1, _LOGITS // vocabulary)
    for start in range(0, len(targets), size):
        yield hidden[start : start + size], targets[start : start + size]


class _Losses(torch.autograd.Function):
    """See `token_losses`.

    Each piece's gradients are taken at once, while its logits are there, so that nothing is computed twice. A token's
    loss depends on its own hidden state alone; so of states each one's gradient is kept, and can be weighed later. Of
    the output layer's weights the sum over the tokens is kept, as there is no room for more.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        logits_of: Callable[[Tensor], Tensor],
        vocabulary: int,
        *learning: Tensor,
    ) -> Tensor:
        """[A]; gradients of `hidden`, and of weights of the output layer that learn, are kept where one is wanted."""
        wanted = ctx.needs_input_grad[0] or bool(learning)
        losses: list[Tensor] = []
        states: list[Tensor] = []
        room: Tensor | None = None  # for a piece's log-probabilities, and then the next's: new memory costs time
        sums = [torch.zeros_like(weight) for weight in learning] if wanted else []
        for piece, target in pieces(hidden, targets, vocabulary):
            with torch.set_grad_enabled(wanted):
                state = piece.detach().requires_grad_(wanted)
                logits = logits_of(state)
            room = torch.empty_like(logits) if room is None else room
            chances = torch.log_softmax(logits.detach(), -1, out=room[: len(logits)])
            losses.append(-chances.gather(1, target[:, None])[:, 0])
            if wanted:  # by the logits it is softmax - one-hot, written over the log-probabilities
                chances.exp_()[torch.arange(len(target), device=target.device), target] -= 1
                own, *others = torch.autograd.grad(logits, [state, *learning], chances)
                states.append(own)
                for one, other in zip(sums, others, strict=True):
                    one.add_(other)
        if wanted:
            ctx.save_for_backward(torch.cat(states), *sums)
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        """What was kept, times what comes from above: [A], the same for all tokens where the output layer learns."""
        (weights,), (own, *sums) = above, ctx.saved_tensors
        if sums and not torch.equal(weights, weights[:1].expand_as(weights)):
            raise RuntimeError("weights of the output layer learn from the sum of all tokens' losses; sum them up")
        others = (gradient * weights[0].to(gradient.dtype) for gradient in sums)
        return own * weights[:, None].to(own.dtype), None, None, None, *others
