"""An encoder with a decoder: the encoder reads the prompt, the decoder says the answer.

Unlike `Frozen`: soft tokens stand in the encoder's text, and an answer's first token comes after the decoder's start.

Dimensions: B rows, T tokens of the encoder, S of the decoder, A answer tokens of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from templates.errors import DataError, UserError
from templates.prompt import Prompt, Soft, is_chat, parts
from templates.soft.frozen import Frozen
from templates.soft.prompt import SoftPrompt, Trained
from templates.soft.rows import Batch, Labelled, Row, named, padded, soft_numbers
from templates.template import Template
from templates.tokens import Encoded, affixes, encode


@dataclass(frozen=True, eq=False, kw_only=True)
class Pairs(Batch):
    """Rows as tensors: `ids` and `soft` are the encoder's [B, T]; `places` count through the decoder's rows."""

    said: Tensor  # [B, S], what the decoder has said before each answer token: its start, then the answer


class EncoderDecoder(Frozen):
    """A model such as T5 or BART. Prompts of keys and values are not for it: it has three kinds of attention."""

    kinds: ClassVar[tuple[type[Trained], ...]] = (SoftPrompt,)

    @property
    def context(self) -> int:
        """Positions of the encoder, and of the decoder; relative ones have no end unless `n_positions` says so."""
        config = self.model.config
        return int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 2**31)

    @cached_property
    def start(self) -> int:
        """The token that the decoder starts with.

        Raises:
            UserError: the model does not say.
        """
        for config in (self.model.config, self.model.generation_config):
            if (token := getattr(config, "decoder_start_token_id", None)) is not None:
                return int(token)
        raise UserError(
            f"{self.base.name!r} does not say what its decoder starts with; set model.config.decoder_start_token_id"
        )

    def row(self, template: Template, example: Labelled, answer: str, room: int, *, end: bool) -> Row:
        """The example's row: what the encoder reads, then what the decoder says.

        The space that sets an answer apart from its prompt is left out: the decoder begins a text.

        Raises:
            DataError: prompt or answer has no room, or the answer is empty.
        """
        template.check(example.fields, example.id)
        asked = enclosed(self.tokenizer, template.render(example.fields))
        words = template.continuation(example.shown, answer).lstrip(" ")
        said = list(self.tokenizer.encode(words, add_special_tokens=False, verbose=False))
        if end and self.tokenizer.eos_token_id is not None:
            said.append(self.tokenizer.eos_token_id)
        if not said:
            raise DataError(f"{named(example)} has an empty answer, so nothing can be learnt; leave it out")
        if max(len(asked.ids), len(said)) > room:
            raise DataError(
                f"{named(example)} has {len(asked.ids)} tokens of prompt and {len(said)} of answer, and there is "
                f"room for {room} each; leave it out, or shorten it"
            )
        tokens = (*asked.ids, *said)
        return Row(tokens, soft_numbers(len(tokens), asked.soft, len(template.soft or ())), len(said))

    def batch(self, rows: Sequence[Row]) -> Pairs:
        """The rows as one batch; both sides are filled up on the right."""
        asked = [len(row.tokens) - row.answer for row in rows]
        length = max(row.answer for row in rows)  # S
        soft = [row.soft[:size] for row, size in zip(rows, asked, strict=True)]
        places = [number * length + place for number, row in enumerate(rows) for place in range(row.answer)]
        return Pairs(
            ids=padded([row.tokens[:size] for row, size in zip(rows, asked, strict=True)], 0, self.device),
            soft=padded(soft, -1, self.device) if any(number >= 0 for its in soft for number in its) else None,
            places=torch.tensor(places, device=self.device),
            targets=torch.tensor([token for row in rows for token in row.tokens[-row.answer :]], device=self.device),
            answers=[row.answer for row in rows],
            seen=padded([[1] * size for size in asked], 0, self.device),
            said=padded([[self.start, *row.tokens[-row.answer : -1]] for row in rows], self.start, self.device),
        )

    def run(self, batch: Batch, prompt: Tensor | None) -> Any:
        """What the model makes of the rows; no token of an answer sees what fills it up behind."""
        assert isinstance(batch, Pairs)  # noqa: S101 - of our own making
        return self.model(
            inputs_embeds=self._embedded(batch, prompt),
            attention_mask=batch.seen,
            decoder_input_ids=batch.said,
            use_cache=False,
        )

    def run_one(self) -> Any:
        """What the model makes of one token on either side."""
        one = torch.full((1, 1), self.start, device=self.device)
        return self.model(input_ids=one, decoder_input_ids=one, use_cache=False)


def enclosed(tokenizer: Any, prompt: Prompt) -> Encoded:
    """The prompt's token ids, with the tokenizer's special tokens around all of it, wherever soft prompts stand.

    Those that begin a text stand before its first words, behind a soft prompt in front, as in PEFT; those that end one
    (T5 has such) stand behind everything.
    """
    if is_chat(prompt):
        return encode(tokenizer, prompt)
    before, after = affixes(tokenizer)
    ids: list[int] = []
    soft: list[tuple[int, Soft]] = []
    for part in parts(prompt):  # type: ignore[arg-type]  # not a chat, so a text
        if isinstance(part, str):
            ids += [*before, *tokenizer.encode(part, add_special_tokens=False, verbose=False)]
            before = []
        else:
            soft.append((len(ids), part))
            ids += [0] * len(part.vectors)
    return Encoded((*ids, *before, *after), tuple(soft))
