"""A frozen model that is read by a classifier, and what is trained of both: a prefix and the classifier, as one vector.

One vector, because the loop trains modules that give one tensor; so gradients of both are summed over devices, kept in
checkpoints and compared on the dev set as a prompt's are.

Dimensions: B rows, T tokens, P soft tokens, W numbers of one, H hidden, C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from templates.errors import DataError, UserError
from templates.soft.base import Base
from templates.soft.batches import in_batches
from templates.soft.dev import Dev
from templates.soft.encoder_decoder import enclosed
from templates.soft.families import causal
from templates.soft.frozen import Frozen
from templates.soft.masked import Masked
from templates.soft.rows import Batch, Labelled, Row, as_batch
from templates.template import Template
from templates.tokens import begun, encode


class Parts(NamedTuple):
    """A prefix, and the classifier that reads behind it."""

    prefix: Tensor  # [P, W]
    weights: Tensor  # [C, H]
    bias: Tensor  # [C]

    @property
    def joined(self) -> Tensor:
        """[P·W + C·H + C]."""
        return torch.cat([part.flatten() for part in self])


@dataclass(eq=False)
class Headed(Frozen):
    """A model without its output layer, a prefix before its text, and a classifier behind it.

    Unlike in `Frozen`, a row is a prompt and its label's number, and what the loss is given is `Parts` as one vector.

    Args:
        model: without its output layer.
        tokenizer: its own.
        inner: the same as what runs it: `Masked` for an encoder.
        tokens: P.
        labels: C.
    """

    inner: Frozen
    tokens: int
    labels: int

    @property
    def base(self) -> Base:
        """Which model it is."""
        return self.inner.base

    @property
    def context(self) -> int:
        """Positions that it has, the prefix's too."""
        return self.inner.context

    @property
    def both_ways(self) -> bool:
        """Whether all tokens see all others, as in BERT; then the first one is read."""
        return isinstance(self.inner, Masked)

    def row_for(self, template: Template, example: Labelled, label: int) -> Row:
        """The example's prompt, its label's number in the place of an answer.

        Raises:
            DataError: the prompt has no room.
        """
        template.check(example.fields, example.id)
        asked = template.render(example.fields)
        ids = (enclosed if self.both_ways else encode)(self.tokenizer, asked).ids
        begun(ids, self.base.name)
        if len(ids) + self.tokens > self.context:
            raise DataError(
                f"example {example.id!r} has {len(ids)} tokens, and there is room for {self.context - self.tokens} "
                "behind the prefix; shorten it, or leave it out"
            )
        return Row((*ids, label), (-1,) * (len(ids) + 1), 1)

    def batch(self, rows: Sequence[Row]) -> Batch:
        """The rows as one batch, each read in one place; `targets` are labels' numbers."""
        if self.both_ways:
            return as_read_first(as_batch(rows, self.device), [len(row.tokens) - 1 for row in rows])
        return self.inner.batch(rows)

    def loss(self, batch: Batch, prompt: Tensor | None) -> Tensor:
        """Cross-entropy of the batch's labels, summed."""
        return nn.functional.cross_entropy(self.scores(batch, prompt), batch.targets, reduction="sum")

    def scores(self, batch: Batch, prompt: Tensor | None) -> Tensor:
        """Each label's score, [B, C]: weights · h + bias."""
        assert prompt is not None  # noqa: S101 - the classifier is in it
        prefix, weights, bias = self.parts(prompt)
        return nn.functional.linear(self.states(batch, prefix), weights, bias)

    def states(self, batch: Batch, prefix: Tensor | None) -> Tensor:
        """The last hidden state where each row is read, [B, H] float32."""
        found: Tensor = self.inner.run(batch, prefix if prefix is not None and len(prefix) else None).last_hidden_state
        return found.flatten(0, 1)[batch.places].float()

    def parts(self, joined: Tensor) -> Parts:
        """What `Parts.joined` joined."""
        base, head = self.base, self.labels * self.base.hidden
        prefix, weights, bias = torch.split(joined, [joined.numel() - head - self.labels, head, self.labels])
        width = base.layers * 2 * base.kv_heads * base.head_size
        return Parts(prefix.view(self.tokens, width), weights.view(self.labels, -1), bias)


class Head(nn.Module):
    """Prefix and classifier. The classifier is trained on hidden states of mean 0 and deviation 1, and begins at zero.

    Args:
        prefix: gives the prefix, [P, W].
        seen: some hidden states to begin with, [N, H], of which mean and deviation are taken.
        labels: C.
    """

    mean: Tensor
    unit: Tensor

    def __init__(self, prefix: nn.Module, seen: Tensor, labels: int) -> None:
        super().__init__()
        self.prefix = prefix
        spread = seen.std(0, correction=0)
        self.register_buffer("mean", seen.mean(0))
        self.register_buffer("unit", torch.where(spread > 0, 1 / spread, 0.0) / seen.shape[1] ** 0.5)
        self.weights = nn.Parameter(torch.zeros(labels, seen.shape[1]))
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self) -> Tensor:
        """`Parts` for states as they are, joined."""
        weights = self.weights * self.unit
        return Parts(self.prefix(), weights, self.bias - weights @ self.mean).joined


@dataclass(frozen=True)
class Exam:
    """How well labels are told on the dev set; the `Judge` of classifiers.

    Args:
        frozen: the model.
        rows: at least one.
        batch: rows at once.
    """

    frozen: Headed
    rows: Sequence[Row]
    batch: int

    def __call__(self, prompt: Tensor | None) -> Dev:
        """Share of the rows whose label scores best, and the labels' mean cross-entropy."""
        chances = logprobs(self.frozen, self.rows, prompt, self.batch)
        known = torch.tensor([row.tokens[-1] for row in self.rows])
        right = (chances.argmax(1) == known).float().mean().item()
        return Dev(right, nn.functional.nll_loss(chances, known).item())


def logprobs(frozen: Headed, rows: Sequence[Row], prompt: Tensor | None, size: int) -> Tensor:
    """Log-probabilities of the labels, [rows, C]."""
    found = in_batches(frozen, rows, size, lambda some: list(frozen.scores(some, prompt).log_softmax(-1).cpu()))
    return torch.stack(found)


def headed(model: Any, tokenizer: Any, tokens: int, labels: int) -> Headed:
    """The model as what a classifier reads; of a model with an output layer all but that.

    Raises:
        UserError: an encoder with a decoder.
    """
    body = model.base_model
    if getattr(model.config, "is_encoder_decoder", False):
        raise UserError(
            f"a classifier reads an encoder's first token or a causal model's last, and {model.name_or_path!r} "
            f"({model.config.model_type}) is an encoder with a decoder; train a prompt of label words for it"
        )
    inner = Frozen(body, tokenizer)
    with inner.held():
        onward = causal(body)
    return Headed(body, tokenizer, inner if onward else Masked(body, tokenizer), tokens, labels)


def as_read_first(batch: Batch, sizes: Sequence[int]) -> Batch:
    """The batch with each row read at its first token; what fills it up behind so many tokens is not seen."""
    width = batch.ids.shape[1]
    lengths, device = torch.tensor(sizes, device=batch.ids.device), batch.ids.device
    seen = (torch.arange(width, device=device) < lengths[:, None]).long()
    return replace(batch, places=torch.arange(len(sizes), device=device) * width, seen=seen)
