"""What a model is shown: text, with soft prompts wherever text may stand, or the turns of a chat."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal, Protocol, TypeAlias, TypeGuard, runtime_checkable

from templates.errors import UserError

Role: TypeAlias = Literal["system", "user", "assistant"]


@runtime_checkable
class Soft(Protocol):
    """A trained prompt that stands where text stands.

    `vectors` [P, H] are its embeddings; `digest` is a hash of their bytes, which goes into cache keys.
    """

    @property
    def vectors(self) -> Any: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102


Text: TypeAlias = str | tuple[str | Soft, ...]


@dataclass(frozen=True)
class Turn:
    """One message of a chat."""

    role: Role
    content: Text


Chat: TypeAlias = tuple[Turn | Soft, ...]  # what is trained may lead, before all that the chat template lays out
Prompt: TypeAlias = Text | Chat


def is_chat(prompt: Prompt) -> TypeGuard[Chat]:
    """Whether the prompt is a chat, to be laid out by the model's own chat template."""
    return isinstance(prompt, tuple) and any(isinstance(part, Turn) for part in prompt)


def turns(chat: Chat) -> tuple[Turn, ...]:
    """The chat's messages.

    Raises:
        UserError: a trained prompt after a turn; it may lead the chat, or stand in a turn's text.
    """
    after = chat[len(lead(chat)) :]
    if any(not isinstance(part, Turn) for part in after):
        raise UserError(f"a soft prompt leads a chat or stands in a turn's text, and here is {shown(chat)[-80:]!r}")
    return tuple(part for part in after if isinstance(part, Turn))


def lead(chat: Chat) -> tuple[Soft, ...]:
    """The trained prompts before the chat's first turn."""
    return tuple(part for part in takewhile(lambda part: not isinstance(part, Turn), chat) if isinstance(part, Soft))


def joined(parts: Iterable[str | Soft]) -> Text:
    """The parts as one text: neighbouring strings run together, a text without soft prompts is a plain string."""
    merged: list[str | Soft] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif part != "":
            merged.append(part)
    if not any(isinstance(part, Soft) for part in merged):
        return "".join(str(part) for part in merged)
    return tuple(merged)


def parts(text: Text) -> tuple[str | Soft, ...]:
    """The text as a tuple of strings and soft prompts."""
    return (text,) if isinstance(text, str) else text


def extended(prompt: Prompt, more: Text) -> Prompt:
    """The prompt with `more` after it: appended to a text, or to a chat's last turn.

    After an extension a chat may end in an assistant's turn, which the model then continues.
    """
    if is_chat(prompt):
        *before, last = turns(prompt)
        longer: Chat = (*lead(prompt), *before, Turn(last.role, joined((*parts(last.content), *parts(more)))))
        return longer
    return joined((*parts(prompt), *parts(more)))  # type: ignore[arg-type]  # not a chat, so a text


def soft_prompts(prompt: Prompt) -> list[Soft]:
    """The soft prompts in the prompt, in order; empty for plain text."""
    if is_chat(prompt):
        return [*lead(prompt), *(soft for turn in turns(prompt) for soft in soft_prompts(turn.content))]
    return [part for part in parts(prompt) if not isinstance(part, str)]  # type: ignore[arg-type]  # not a chat, so a text


def shown(prompt: Prompt) -> str:
    """The prompt as a person reads it: for error messages and reports, not for models."""
    if is_chat(prompt):
        return "\n".join(
            f"[{part.role}] {shown(part.content)}" if isinstance(part, Turn) else shown((part,)) for part in prompt
        )
    return "".join(part if isinstance(part, str) else f"<soft {part.digest[:8]}>" for part in parts(prompt))  # type: ignore[arg-type]


def as_json(prompt: Prompt) -> Any:
    """The prompt as JSON values, one for one: soft prompts by their digest. Two prompts are equal when these are."""
    if isinstance(prompt, str):
        return prompt
    return [_as_json(part) for part in prompt]


def _as_json(part: str | Soft | Turn) -> Any:
    if isinstance(part, Turn):
        return {"role": part.role, "content": as_json(part.content)}
    return part if isinstance(part, str) else {"soft": part.digest}
