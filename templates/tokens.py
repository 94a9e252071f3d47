"""From a prompt to token ids: in training as in serving, so that a trained prompt meets what it was trained with."""

import re
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

from templates.errors import Unsupported, UserError
from templates.prompt import Chat, Prompt, Soft, Text, is_chat, joined, lead, parts, shown, soft_prompts, turns
from templates.soft.prompt import Prefix

Tokens = TypeVar("Tokens", bound=Sized)

# Stands at the end of a chat while its template lays it out: what follows it there is the end of a turn.
_CUT = "<|cut here|>"


@dataclass(frozen=True, eq=False)
class Remembering:
    """A tokenizer that cuts no text twice."""

    tokenizer: Any
    known: dict[tuple[str, bool], list[int]] = field(default_factory=dict)

    def encode(self, text: str, *, add_special_tokens: bool, verbose: bool = True) -> list[int]:
        """The text's token ids."""
        if (text, add_special_tokens) not in self.known:
            ids = self.tokenizer.encode(text, add_special_tokens=add_special_tokens, verbose=verbose)
            self.known[text, add_special_tokens] = list(ids)
        return list(self.known[text, add_special_tokens])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


@dataclass(frozen=True)
class Encoded:
    """A prompt in token ids.

    Args:
        ids: its tokens, 0 where a soft token stands.
        soft: the soft prompts in it, each with the place of its first token.
        prefix: keys and values before it.
    """

    ids: tuple[int, ...]
    soft: tuple[tuple[int, Soft], ...] = ()
    prefix: Prefix | None = None

    def __len__(self) -> int:
        """How many positions it takes up."""
        return len(self.ids) + (len(self.prefix) if self.prefix else 0)

    def followed_by(self, tokens: Sequence[int]) -> "Encoded":
        """The prompt with these tokens after it."""
        return replace(self, ids=(*self.ids, *tokens))


def encode(tokenizer: Any, prompt: Prompt) -> Encoded:
    """The prompt's token ids: text with the tokenizer's own special tokens, a chat as its template lays it out.

    Text on either side of a soft prompt is cut into tokens apart. A soft prompt in front of everything stands before
    the special tokens too, as in PEFT.
    """
    text, special = _laid_out(tokenizer, prompt)
    return _encoded(tokenizer, text, special=special)


def split(tokenizer: Any, prompt: Prompt, continuation: str) -> tuple[Encoded, list[int]]:
    """The token ids of the prompt and of the continuation after it.

    The prompt's are those of `encode`, whatever the continuation: where tokens of prompt and continuation would merge,
    both are cut apart at the seam, so that all continuations of a prompt are compared after the same context.

    Raises:
        UserError: an empty continuation, or nothing before it; see `begun`.
    """
    if not continuation:
        raise UserError(f"an empty continuation of {shown(prompt)[-60:]!r} has no tokens to score; leave it out")
    text, special = _laid_out(tokenizer, prompt)
    context = _encoded(tokenizer, text, special=special)
    begun(context.ids, _model_of(tokenizer))
    whole = _encoded(tokenizer, joined((*parts(text), continuation)), special=special).ids
    if len(whole) > len(context.ids) and whole[: len(context.ids)] == context.ids:
        return context, list(whole[len(context.ids) :])
    return context, _ids(tokenizer, continuation, special=False)


def affixes(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before a text, and those that it puts after."""
    bare = list(tokenizer.encode("a", add_special_tokens=False))
    whole = list(tokenizer.encode("a", add_special_tokens=True))
    start = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def begun(ids: Tokens, model: str) -> Tokens:
    """The prompt's token ids, of which there must be one: after nothing, nothing can be predicted.

    Raises:
        UserError: the prompt is empty, and the model's tokenizer begins no text.
    """
    if not len(ids):
        raise UserError(
            f"the prompt is empty and the tokenizer of {model!r} puts nothing before it, so that there is nothing to "
            f"continue; begin with some text"
        )
    return ids


def _encoded(tokenizer: Any, text: Text, *, special: bool) -> Encoded:
    """The text's tokens; the special ones of a text's beginning stand before its first words."""
    ids: list[int] = []
    soft: list[tuple[int, Soft]] = []
    prefix: Prefix | None = None
    begins = special
    for part in parts(text):
        if isinstance(part, str):
            ids += _ids(tokenizer, part, special=begins)
            begins = False
        elif isinstance(part, Prefix):
            if prefix is not None or ids:
                raise Unsupported(
                    f"a prefix stands once, before everything else (in a chat: before its first turn), and here is "
                    f"{shown(text)[:60]!r}"
                )
            prefix = part
        else:
            soft.append((len(ids), part))
            ids += [0] * len(part.vectors)
    if begins:  # a text without words has its special tokens still
        ids += _ids(tokenizer, "", special=True)
    return Encoded(tuple(ids), tuple(soft), prefix)


def _ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    # verbose: a prompt that does not fit is refused with an error, so the warning of the tokenizer is not wanted.
    return list(tokenizer.encode(text, add_special_tokens=special, verbose=False))


def _model_of(tokenizer: Any) -> str:
    return getattr(tokenizer, "name_or_path", "") or "this model"


def _laid_out(tokenizer: Any, prompt: Prompt) -> tuple[Text, bool]:
    """The prompt as one text, and whether the tokenizer's special tokens are still to be added."""
    if is_chat(prompt):
        return _chat(tokenizer, prompt), False  # the template writes them itself
    return prompt, True  # type: ignore[return-value]  # not a chat, so a text


def _chat(tokenizer: Any, chat: Chat) -> Text:
    from jinja2.exceptions import TemplateError

    model = _model_of(tokenizer)
    if not getattr(tokenizer, "chat_template", None):
        raise Unsupported(f"{model} has no chat template; use a text prompt, or a model that was trained to chat")
    soft = soft_prompts(tuple(turns(chat)))
    mark = _mark(chat)
    numbers = count()
    messages = [
        {
            "role": turn.role,
            "content": "".join(
                part if isinstance(part, str) else mark.format(next(numbers)) for part in parts(turn.content)
            ),
        }
        for turn in turns(chat)
    ]
    # transformers' own continue_final_message strips spaces at the end of the turn; a cut of our own keeps every byte.
    continued = messages[-1]["role"] == "assistant"
    if continued:
        messages[-1]["content"] += _CUT
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not continued))
    except TemplateError as error:
        raise Unsupported(f"the chat template of {model} refuses {shown(chat)!r}: {error}") from error
    if continued and _CUT not in text:
        raise Unsupported(f"the chat template of {model} hides the last turn, so it cannot be continued")
    laid_out = _unmarked(text[: text.rindex(_CUT)] if continued else text, mark, soft)
    return joined((*lead(chat), *parts(laid_out)))


def _mark(chat: Chat) -> str:
    """What stands for a soft prompt, by its number, while the chat is laid out; nobody has written that himself."""
    said = shown(chat)
    return next(f"<|soft {own}/{{}}|>" for own in count() if f"<|soft {own}/" not in said)


def _unmarked(text: str, mark: str, soft: Sequence[Soft]) -> Text:
    """The text with its soft prompts back in their places, each as often as the chat template shows its turn."""
    pieces = re.split(re.escape(mark).replace(r"\{\}", r"(\d+)"), text)
    return joined(piece if i % 2 == 0 else soft[int(piece)] for i, piece in enumerate(pieces))
