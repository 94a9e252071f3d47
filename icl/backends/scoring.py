"""Scoring with a transformers model: one pass over a context and, packed behind it, all of its continuations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icl.backends.attention import Windows, blocked
from icl.backends.batching import Share, Size
from icl.backends.soft import inputs, prefixes
from icl.lm import Score
from templates.tokens import Encoded

if TYPE_CHECKING:
    from torch import Tensor

_CONTEXT, _PADDING = -1, -2  # where a token of a row belongs, when not to the continuation of that number


@dataclass(frozen=True)
class Scoring:
    """Continuations of one context, in token ids. Its parts are the continuations.

    Packed, the continuations stand one after another in one row behind the context, each masked from the others, so
    that the context is computed once. Otherwise each gets a row of its own.
    """

    context: Encoded
    continuations: list[list[int]]
    packed: bool

    @property
    def parts(self) -> int:
        """How many continuations there are."""
        return len(self.continuations)

    def rows(self, parts: range) -> list["Line"]:
        """The rows in which these continuations are scored."""
        chosen = [self.continuations[part] for part in parts]
        return [Line(self.context, row) for row in ([chosen] if self.packed else [[one] for one in chosen])]

    def size(self, parts: range) -> Size:
        """What the rows cost; nothing grows."""
        rows = self.rows(parts)
        longest = max(row.packed for row in rows)
        return Size(len(self.context) + longest, len(rows), 0, longest + 1, len(rows))


@dataclass(frozen=True)
class Line:
    """A context and continuations behind it: a row of a batch. Their last tokens are predicted, but not run."""

    context: Encoded
    continuations: list[list[int]]

    @property
    def packed(self) -> int:
        """Tokens behind the context."""
        return sum(len(continuation) - 1 for continuation in self.continuations)

    @property
    def tokens(self) -> list[int]:
        """The row's tokens."""
        return [*self.context.ids, *(token for continuation in self.continuations for token in continuation[:-1])]

    @property
    def positions(self) -> list[int]:
        """Every continuation begins right after the context; a prefix comes before it."""
        start = len(self.context)
        return [
            *range(start - len(self.context.ids), start),
            *(start + i for one in self.continuations for i in range(len(one) - 1)),
        ]

    @property
    def blocks(self) -> list[int]:
        """For each token the number of its continuation."""
        return [_CONTEXT] * len(self.context.ids) + [b for b, one in enumerate(self.continuations) for _ in one[:-1]]

    def targets(self) -> list[tuple[int, int]]:
        """For each token to be predicted the place of the token before it, counted from the row's end, and itself."""
        found, place = [], -self.packed
        for first, *later in self.continuations:
            found.append((-self.packed - 1, first))  # after the context
            found += [(place + i, token) for i, token in enumerate(later)]
            place += len(later)
        return found


def score(model: Any, windows: Windows, shares: Sequence[Share]) -> list[list[Score]]:
    """The scores of each share's continuations.

    Args:
        model: a causal language model of transformers.
        windows: of the model; see `windows_of`.
        shares: of `Scoring` tasks.
    """
    import torch

    rows = [row for share in shares for row in share.task.rows(share.parts)]
    width, outputs = max(len(row.tokens) for row in rows), max(row.packed for row in rows) + 1  # T, K

    def padded(values: Sequence[Sequence[int]], filler: int = 0) -> "Tensor":  # [R, T], the rows' ends aligned
        return torch.tensor([[filler] * (width - len(row)) + list(row) for row in values], device=model.device)

    places, positions = padded([row.blocks for row in rows], _PADDING), padded([row.positions for row in rows])
    cache, before = prefixes(model, [row.context.prefix for row in rows])
    # Then every token sees all that stands before it; behind a prefix there may be padding, which no window may count.
    alone = all(len(row.continuations) == 1 and not row.context.prefix for row in rows)
    with torch.inference_mode():
        logits = model(
            **inputs(model, [row.tokens for row in rows], [row.context.soft for row in rows]),
            attention_mask=torch.cat([before, (places != _PADDING).long()], 1)
            if alone
            else _masks(places, positions, before, windows, model.dtype),
            position_ids=positions,
            past_key_values=cache if before.shape[1] else None,
            use_cache=False,
            logits_to_keep=outputs,
        ).logits.float()  # [R, K, V]
        aims = torch.tensor([(i, at + outputs, token) for i, row in enumerate(rows) for at, token in row.targets()])
        row, at, token = aims.to(model.device).unbind(1)
        values = iter((logits[row, at, token] - logits.logsumexp(-1)[row, at]).tolist())
    return [
        [Score(tuple(next(values) for _ in share.task.continuations[part])) for part in share.parts] for share in shares
    ]


def _masks(places: "Tensor", positions: "Tensor", before: "Tensor", windows: Windows, dtype: Any) -> Any:
    """Masks under which a token sees its prefix, its context, and what stands before it in its own continuation.

    Args:
        places: [R, T], the number of each token's continuation, or _CONTEXT, or _PADDING.
        positions: [R, T].
        before: [R, P], 1 where a row has a token of a prefix.
        windows: see `windows_of`.
        dtype: of the model: masks are added to its attention scores.
    Returns:
        [R, 1, T, P + T] where all layers are of one kind, else such a mask for each kind.
    """
    import torch

    width = places.shape[1]
    earlier = torch.ones(width, width, dtype=torch.bool, device=places.device).tril()
    related = (places[:, None, :] == _CONTEXT) | (places[:, None, :] == places[:, :, None])
    prefix = before[:, None, :].bool().expand(-1, width, -1)
    visible = torch.cat([prefix, earlier & related], 2)  # [R, T, P + T]
    places_before = before.cumsum(1) - 1
    distance = positions[:, :, None] - torch.cat([places_before, positions], 1)[:, None, :]
    masks = {}
    for kind, window in windows.items():
        seen = visible if window is None else visible & (distance < window)
        masks[kind] = blocked(seen, dtype)
    return masks if len(masks) > 1 else next(iter(masks.values()))
