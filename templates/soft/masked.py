"""Masked language models, as BERT and RoBERTa are.

Unlike causal ones they see all of a row at once: masks stand where the answer is to be said, each of its tokens is read
at its own mask, and special tokens end the row.

Dimensions: B rows, T tokens, P soft tokens, H hidden, A answer tokens of a batch, L layers, K heads of keys and values,
D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from templates.errors import Unsupported, UserError
from templates.soft.base import Base
from templates.soft.frozen import Frozen
from templates.soft.rows import Batch, Labelled, Row, padded, row_of
from templates.template import Template
from templates.tokens import affixes


@dataclass(eq=False)
class Masked(Frozen):
    """A masked language model of transformers, in evaluation mode, none of whose weights gets a gradient.

    An answer of several tokens has as many masks, all there at once: its probability is the product over its masks,
    and how many there are is given away. So labels of one length are compared best.
    """

    @cached_property
    def base(self) -> Base:
        """Which model it is. PEFT has no task of that kind, and loads its prompts with FEATURE_EXTRACTION."""
        return replace(super().base, hidden=self.embeddings.shape[1], task="FEATURE_EXTRACTION")

    @property
    def context(self) -> int:
        """Positions that it has; RoBERTa's are numbered from behind that of the padding, so that 514 are 512."""
        return super().context - self._first

    @cached_property
    def mask(self) -> int:
        """The mask's token.

        Raises:
            UserError: the tokenizer has none.
        """
        if self.tokenizer.mask_token_id is None:
            raise UserError(f"the tokenizer of {self.model.name_or_path!r} has no mask token; load the model's own")
        return int(self.tokenizer.mask_token_id)

    @cached_property
    def special(self) -> tuple[list[int], list[int]]:
        """The tokens that begin a text, and those that end it."""
        return affixes(self.tokenizer)

    def row(self, template: Template, example: Labelled, answer: str, room: int, *, end: bool) -> Row:  # noqa: ARG002
        """The example's row: prompt, then answer. What ends every row is added when rows are batched.

        Args:
            template: see `row_of`.
            example: see `row_of`.
            answer: see `row_of`.
            room: see `row_of`.
            end: nothing to learn: the masks say where the answer ends.
        Raises:
            DataError: prompt and answer have no room.
        """
        begins, ends = self.special
        return row_of(_Opening(self.tokenizer, begins), template, example, answer, room - len(ends), end=False)

    def batch(self, rows: Sequence[Row]) -> Batch:
        """The rows as one batch, masks in the places of their answers, where the model computes."""
        return as_masked(rows, self.mask, self.special[1], self.device)

    def run(self, batch: Batch, prompt: Tensor | None) -> Any:
        """Of a prefix the text begins at position P, as everywhere.

        transformers itself does so for token ids (BERT by the cache's length, RoBERTa by that and its padding), but for
        RoBERTa's embeddings it does not; so positions are said here.
        """
        seen: Any = batch.seen
        more: dict[str, Any] = {}
        if batch.prefixed and prompt is not None:
            start = self._first + len(prompt)
            seen = torch.cat([seen.new_ones(len(seen), len(prompt)), seen], 1)  # [B, P + T]
            more = {
                "past_key_values": self.cache(prompt, len(batch.ids)),
                "position_ids": torch.arange(start, start + batch.ids.shape[1], device=self.device)[None],
                "use_cache": False,
            }
        return self.model(inputs_embeds=self._embedded(batch, prompt), attention_mask=seen, **more)

    def check_cache(self) -> None:
        """Refuse a model that takes no keys and values from outside.

        Raises:
            Unsupported: it does not.
        """
        if "past_key_values" not in signature(self.model.base_model.forward).parameters:
            raise Unsupported(
                f"{type(self.model).__name__} takes no keys and values from outside, so that no prefix can be trained "
                "for it; use PromptTuning or PTuning"
            )

    @property
    def _first(self) -> int:
        """The number of the first position."""
        table = getattr(getattr(self.model.base_model, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        return 0 if padding is None else int(padding) + 1


@dataclass(frozen=True)
class _Opening:
    """A tokenizer that begins a text and does not end it."""

    tokenizer: Any
    begins: list[int]

    def encode(self, text: str, *, add_special_tokens: bool, verbose: bool) -> list[int]:
        ids = self.tokenizer.encode(text, add_special_tokens=False, verbose=verbose)
        return [*self.begins, *ids] if add_special_tokens else list(ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def as_masked(rows: Sequence[Row], mask: int, ends: Sequence[int], device: Any = "cpu") -> Batch:
    """The rows as one batch: of each its prompt, masks in the place of its answer, and what ends a text.

    Args:
        rows: as `Masked.row` makes them.
        mask: the mask's token.
        ends: tokens after every text.
        device: where the model computes.
    """
    shown = [[*row.tokens[: -row.answer], *[mask] * row.answer, *ends] for row in rows]
    width = max(len(tokens) for tokens in shown)  # T
    places = [
        number * width + at
        for number, row in enumerate(rows)
        for at in range(len(row.tokens) - row.answer, len(row.tokens))
    ]
    soft = any(number >= 0 for row in rows for number in row.soft)
    return Batch(
        ids=padded(shown, 0, device),
        soft=padded([row.soft for row in rows], -1, device, width) if soft else None,
        places=torch.tensor(places, device=device),
        targets=torch.tensor([token for row in rows for token in row.tokens[-row.answer :]], device=device),
        answers=[row.answer for row in rows],
        seen=padded([[1] * len(tokens) for tokens in shown], 0, device),
    )
