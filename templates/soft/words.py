"""What words are worth in the same place: a question runs once, whatever the words that may answer it.

Dimensions: B rows, V vocabulary, A answer tokens of a batch.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from templates.soft.batches import in_batches
from templates.soft.encoder_decoder import EncoderDecoder, Pairs
from templates.soft.frozen import Frozen
from templates.soft.masked import Masked
from templates.soft.recompute import once
from templates.soft.rows import Batch, Labelled, Row
from templates.template import Template
from templates.tokens import Remembering

Logprobs = list[float]  # of a word's tokens

_FEW = 8  # words that are read sooner with their question before each, in full batches, than behind one that runs alone
_SHORT = 4  # rows without their question are so short that as many times more of them run at once


def rows_of_words(frozen: Frozen, template: Template, example: Labelled, words: Sequence[str], room: int) -> list[Row]:
    """A row for each of the words that may answer the example, whose prompt is cut into tokens once."""
    wordless, reader = replace(template, verbalizer=None), replace(frozen, tokenizer=Remembering(frozen.tokenizer))
    return [reader.row(wordless, example, word, room, end=False) for word in words]


def word_logprobs(
    frozen: Frozen, worded: Sequence[Sequence[Row]], prompt: Tensor | None, size: int
) -> list[list[Logprobs]]:
    """For each question and each of the words that may answer it, the log-probabilities of the word's tokens.

    Words of one token are all read in the place of one. A question that has longer ones runs with each of them, or,
    where they are many, by itself: see `together`, `by_masks` and `read_once`.

    Args:
        frozen: the model; within `held`, and no gradients.
        worded: for each question a row for each of its words; these differ in their answers alone.
        prompt: see `Frozen.hidden`.
        size: rows that run at once.
    """
    longer = by_masks if isinstance(frozen, Masked) else read_once if isinstance(frozen, EncoderDecoder) else together
    short: dict[tuple[int, ...], list[int]] = {}  # words of one token each, and the questions that have them
    few: list[int] = []  # questions with some words that are longer
    found: dict[int, list[Logprobs]] = {}
    for place, rows in enumerate(worded):
        if {row.answer for row in rows} == {1}:
            short.setdefault(tuple(row.tokens[-1] for row in rows), []).append(place)
        elif len(rows) <= _FEW:
            few.append(place)
        else:
            found[place] = longer(frozen, rows, prompt, size)
    said = iter(_own(frozen, [row for place in few for row in worded[place]], prompt, size))
    found.update({place: [next(said) for _ in worded[place]] for place in few})
    for tokens, places in short.items():
        read = partial(_one_token, frozen, prompt, tokens)
        found.update(zip(places, in_batches(frozen, [worded[place][0] for place in places], size, read), strict=True))
    return [found[place] for place in range(len(worded))]


def together(frozen: Frozen, rows: Sequence[Row], prompt: Tensor | None, size: int) -> list[Logprobs]:
    """One question of a causal model, which reads it once for all words that run together, if it can."""
    with once(frozen.model):
        return _own(frozen, rows, prompt, _SHORT * size if frozen.shares else size)


def by_masks(frozen: Frozen, rows: Sequence[Row], prompt: Tensor | None, size: int) -> list[Logprobs]:
    """One question of a masked model, whose masks say nothing of the word: it runs once for each number of them."""

    def chances(batch: Batch) -> list[Tensor]:
        said = frozen.logits(frozen.hidden(batch, prompt)).log_softmax(-1)  # [A, V]
        return list(torch.split(said, batch.answers))

    lengths = {row.answer: row for row in rows}
    found = dict(zip(lengths, in_batches(frozen, list(lengths.values()), size, chances), strict=True))
    return [found[row.answer][range(row.answer), row.tokens[-row.answer :]].tolist() for row in rows]


def read_once(frozen: Frozen, rows: Sequence[Row], prompt: Tensor | None, size: int) -> list[Logprobs]:
    """One question of an encoder with a decoder: the encoder reads it once for all words that are said together."""
    return _own(_ReadOnce(frozen.model, frozen.tokenizer), rows, prompt, _SHORT * size)


class _ReadOnce(EncoderDecoder):
    """All rows of a batch have one question."""

    def run(self, batch: Batch, prompt: Tensor | None) -> Any:
        """See `EncoderDecoder.run`."""
        assert isinstance(batch, Pairs)  # noqa: S101 - of our own making
        assert batch.seen is not None  # noqa: S101 - likewise
        one = replace(batch, ids=batch.ids[:1], soft=None if batch.soft is None else batch.soft[:1])
        read = self.model.get_encoder()(inputs_embeds=self._embedded(one, prompt), attention_mask=batch.seen[:1])[0]
        return self.model(
            encoder_outputs=(read.expand(len(batch.ids), -1, -1),),
            attention_mask=batch.seen,
            decoder_input_ids=batch.said,
            use_cache=False,
        )


def _own(frozen: Frozen, rows: Sequence[Row], prompt: Tensor | None, size: int) -> list[Logprobs]:
    """Of each row's own answer."""
    return in_batches(frozen, rows, size, lambda some: [its[0].tolist() for its in frozen.logprobs(some, prompt)])


def _one_token(frozen: Frozen, prompt: Tensor | None, tokens: Sequence[int], batch: Batch) -> list[list[Logprobs]]:
    """Of these tokens in the one place of each row where an answer is to be said."""
    chances = frozen.logits(frozen.hidden(batch, prompt)).log_softmax(-1)[:, tokens]
    read: list[list[Logprobs]] = chances[..., None].tolist()
    return read
