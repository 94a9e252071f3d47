"""Triggers in rows: where their tokens stand, how likely labels are with them, and how they read as text.

Dimensions: P trigger tokens, H hidden, C triggers at once, N examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from templates.soft.frozen import Frozen
from templates.soft.prompt import SoftPrompt
from templates.soft.rows import Labelled, Row, rows_of
from templates.template import Template, soft_slots, spelt
from templates.tokens import affixes

_CHECKED = 4  # examples in which a candidate's text is cut into tokens again


@dataclass(frozen=True)
class Asked:
    """An example with its answer: a row for each word that stands for it."""

    example: Labelled
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Slot:
    """A template with places for a trigger.

    Args:
        template: with soft slots, and blank vectors in them.
    """

    template: Template

    @classmethod
    def of(cls, template: Template, frozen: Frozen, tokens: int) -> "Slot":
        """Where a template has no soft slots, a trigger of so many tokens stands before its text."""
        text = template.text if template.soft_tokens else f"{{soft:{tokens}}} {template.text}"
        blank = SoftPrompt(np.zeros((sum(soft_slots(text)), frozen.base.hidden)), frozen.base)
        return cls(replace(template, text=text, soft=blank))

    @property
    def tokens(self) -> int:
        """P."""
        return self.template.soft_tokens

    def spelt(self, tokenizer: Any, tokens: Sequence[int]) -> Template:
        """The template with the trigger as text."""
        said, start = [], 0
        for size in soft_slots(self.template.text):
            ids = list(tokens[start : start + size])
            said.append(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
            start += size
        return replace(self.template, text=spelt(self.template.text, said), soft=None)

    def faithful(self, frozen: Frozen, tokens: Sequence[int], asked: Sequence[Asked], *, every: bool = False) -> bool:
        """Whether the trigger's text is cut into these tokens again, in every example or in the first ones."""
        plain = self.spelt(frozen.tokenizer, tokens)
        for its in asked if every else asked[:_CHECKED]:
            again = frozen.row(plain, its.example, its.example.answer or "", frozen.context * 2, end=False)
            context, row = again.tokens[: -again.answer], its.rows[0]
            if filled(row, tokens)[: -row.answer] != context:
                return False
        return True


def asked_of(frozen: Frozen, slot: Slot, examples: Sequence[Labelled]) -> list[Asked]:
    """The examples' rows, with soft tokens in the trigger's places, behind what begins a text.

    Raises:
        DataError: see `rows_of`.
    """
    rows_of(frozen, slot.template, examples, frozen.context)  # refuses what cannot be learnt from
    wordless, opening = replace(slot.template, verbalizer=None), len(affixes(frozen.tokenizer)[0])
    verbalizer = slot.template.verbalizer
    found = []
    for example in examples:
        answer = example.answer or ""
        words = verbalizer.words[answer] if verbalizer else (answer,)
        rows = [frozen.row(wordless, example, word, frozen.context, end=False) for word in words]
        found.append(Asked(example, tuple(behind(row, opening) for row in rows)))
    return found


def behind(row: Row, opening: int) -> Row:
    """The row with the soft tokens that lead it behind the tokens that begin a text, as words would stand.

    >>> behind(Row((0, 0, 2, 7), (0, 1, -1, -1), 1), 1)
    Row(tokens=(2, 0, 0, 7), soft=(-1, 0, 1, -1), answer=1)
    """
    lead = next((place for place, number in enumerate(row.soft) if number < 0), len(row.soft))

    def moved(values: tuple[int, ...]) -> tuple[int, ...]:
        return (*values[lead : lead + opening], *values[:lead], *values[lead + opening :])

    return Row(moved(row.tokens), moved(row.soft), row.answer)


def filled(row: Row, tokens: Sequence[int]) -> tuple[int, ...]:
    """The row's tokens with the trigger in its places."""
    return tuple(tokens[number] if number >= 0 else token for token, number in zip(row.tokens, row.soft, strict=True))


def log_likelihoods(frozen: Frozen, asked: Sequence[Asked], prompts: Tensor, count: int) -> Tensor:
    """Log-probability of each example's answer with each of several triggers, [C, N], in one forward pass.

    An answer's probability is the sum over the words that stand for it (equation 1).

    Args:
        frozen: the model.
        asked: N examples.
        prompts: [C·P, H], one trigger's embeddings after another.
        count: C.
    """
    tokens = len(prompts) // count  # P
    rows = [row.moved(number * tokens) for number in range(count) for its in asked for row in its.rows]
    said = frozen.logprobs(frozen.batch(rows), prompts)
    words = torch.stack([its[0].sum() for its in said]).view(count, -1)
    parts = torch.split(words, [len(its.rows) for its in asked], 1)
    return torch.stack([part.logsumexp(1) for part in parts], 1)
