"""A template: one text from which the query and its demonstrations are cut."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from templates.answers import Reader
from templates.answers import text as read_text
from templates.errors import MissingSlot, TemplateError
from templates.prompt import Prompt, Soft, Turn, joined
from templates.verbalizer import Verbalizer

if TYPE_CHECKING:
    from templates.soft.prompt import Trained

Fields = Mapping[str, str]

_SLOT = re.compile(r"\{\{|\}\}|\{soft:(?P<soft>[1-9]\d*)\}|\{(?P<field>\w+)\}")
_ANSWER = "{answer}"


def slots(text: str) -> list[str]:
    """The names of the slots in the text, in order of first appearance; `{{` and `}}` are literal braces."""
    return list(dict.fromkeys(match["field"] for match in _SLOT.finditer(text) if match["field"]))


def fill(text: str, fields: Fields, template: str = "template") -> str:
    """The text with every slot replaced by its field, in one pass: a slot inside a value is left as it is.

    Soft slots leave nothing.

    Raises:
        MissingSlot: a slot has no field.
    """
    return "".join(part for part in _filled(text, fields, template) if isinstance(part, str))


def spelt(text: str, words: Sequence[str]) -> str:
    """The text with words in its soft slots, in their order; all else is left as it is.

    >>> spelt("{soft:2}: {review}", ["great {film}"])
    'great {{film}}: {review}'
    """
    said = iter(words)
    return _SLOT.sub(lambda match: literal(next(said)) if match["soft"] else match[0], text)


def literal(words: str) -> str:
    """The words as a template's text writes them: with both braces doubled."""
    return re.sub("[{}]", lambda brace: brace[0] * 2, words)


def soft_slots(text: str) -> list[int]:
    """How many tokens each soft slot of the text has, in order."""
    return [int(match["soft"]) for match in _SLOT.finditer(text) if match["soft"]]


def _filled(text: str, fields: Fields, template: str) -> Iterator[str | range]:
    """The text's pieces, every slot replaced by its field, a soft slot by the numbers of its soft tokens."""
    if missing := [name for name in slots(text) if name not in fields]:
        raise MissingSlot(
            f"template {template!r} needs {missing} but the example has {sorted(fields)}; rename the field or the slot"
        )
    end = tokens = 0
    for match in _SLOT.finditer(text):
        yield text[end : match.start()]
        end = match.end()
        if match["soft"]:
            yield range(tokens, tokens := tokens + int(match["soft"]))
        else:
            yield fields[match["field"]] if match["field"] else match[0][0]
    yield text[end:]


def _unset(text: str) -> str | None:
    """Stands for a reader that was not given."""
    return read_text(text)


@dataclass(frozen=True)
class Template:
    r"""How a task is put into words, and how its answer is read back.

    For every input, `demo(fields, answer).startswith(prompt(fields))`: both are cut from `text`.

    >>> template = Template("Review: {review}\nSentiment: {answer}")
    >>> template.prompt({"review": "a joy"})
    'Review: a joy\nSentiment:'
    >>> template.demo({"review": "a joy"}, "positive")
    'Review: a joy\nSentiment: positive'

    Args:
        text: ends in its one `{answer}` slot; other slots are fields of the example; `{{` is a literal brace.
        response: how a demonstration words its answer; a chain of thought is
            `"{rationale} The answer is {answer}."`.
        instruction: the task description, before the demonstrations (in a chat: the system turn).
        separator: between instruction, demonstrations and query.
        stop: where the model's continuation ends.
        reader: the model's text -> canonical answer, or None; by default the verbalizer's, or else the whole text.
        chat: render as turns, user and assistant, for the model's own chat template.
        verbalizer: the words that stand for labels, where answers are labels.
        soft: a trained prompt. It stands in the text's soft slots, of which `{soft:3}` takes three soft tokens, in each
            demonstration and in the query; where the text has none, once, before everything.
        name: for messages and reports.
    """

    text: str
    response: str = _ANSWER
    instruction: str = ""
    separator: str = "\n\n"
    stop: tuple[str, ...] = ()
    reader: Reader = field(default=_unset, repr=False)
    chat: bool = False
    verbalizer: Verbalizer | None = None
    soft: "Trained | None" = None
    name: str = "template"

    def __post_init__(self) -> None:
        """Refuse a text from which no demonstration can be cut."""
        if self.reader is _unset:
            object.__setattr__(self, "reader", self.verbalizer.read if self.verbalizer else read_text)
        if not self.text.endswith(_ANSWER) or slots(self.text).count("answer") != 1 or self.text.count(_ANSWER) != 1:
            raise TemplateError(f"a template ends in its one '{{answer}}' slot, got {self.text!r}")
        for part in (self.text, self.response):
            if stray := re.findall("[{}]", _SLOT.sub("", part)):
                raise TemplateError(
                    f"template {self.name!r} has a stray {stray[0]!r} in {part!r}; write {{{{ or }}}} for a brace"
                )
        if any(match["soft"] for match in _SLOT.finditer(self.response)):
            raise TemplateError(f"template {self.name!r} has a soft slot in its response; soft tokens stand before it")
        if self.soft is not None and self.soft_tokens not in {0, len(self.soft)}:
            raise TemplateError(
                f"template {self.name!r} has soft slots for {self.soft_tokens} tokens and {self.soft!r} has "
                f"{len(self.soft)}; train a prompt with this template"
            )

    @property
    def slots(self) -> list[str]:
        """The fields that a query must have."""
        return [name for name in slots(self.text) if name != "answer"]

    @property
    def soft_tokens(self) -> int:
        """How many soft tokens the text has slots for."""
        return sum(soft_slots(self.text))

    @property
    def _head(self) -> str:
        return self.text.removesuffix(_ANSWER)

    def check(self, fields: Fields, example: str, *, demo: bool = False) -> None:
        """Refuse an example that lacks a field, naming it, before any model is asked.

        Raises:
            MissingSlot: a slot has no field.
        """
        needed = [*self.slots, *(name for name in slots(self.response) if demo and name != "answer")]
        if missing := [name for name in dict.fromkeys(needed) if name not in fields]:
            raise MissingSlot(
                f"template {self.name!r} needs {missing} but example {example!r} has {sorted(fields)}; "
                "rename the field or the slot"
            )

    def prompt(self, fields: Fields) -> str:
        """The query, up to where the answer goes. Spaces before the answer belong to the answer."""
        return fill(self._head.rstrip(" "), fields, self.name)

    def demo(self, fields: Fields, answer: str) -> str:
        """The query with its answer. `fields` may hold a `rationale` for templates that show one."""
        return fill(self._head + self.response, self._answered(fields, answer), self.name)

    def continuation(self, fields: Fields, answer: str) -> str:
        """What a model should write after `prompt(fields)` to give this answer, leading space included."""
        return self.demo(fields, answer).removeprefix(self.prompt(fields))

    def render(self, query: Fields, demos: Sequence[tuple[Fields, str]] = ()) -> Prompt:
        """Instruction, demonstrations, query and soft prompts as one prompt: text, or the turns of a chat.

        Raises:
            TemplateError: the text has soft slots, and there is no soft prompt for them.
        """
        if self.soft_tokens and self.soft is None:
            raise TemplateError(
                f"template {self.name!r} has slots for {self.soft_tokens} soft tokens and no soft prompt; give it one: "
                "--soft-prompt PATH, or replace(template, soft=SoftPrompt.load(PATH))"
            )
        leading = () if self.soft is None or self.soft_tokens else (self.soft,)
        if self.chat:
            return (*leading, *self._turns(query, demos))
        shown = [self._text(self._head + self.response, self._answered(fields, answer)) for fields, answer in demos]
        asked = self._text(self._head.rstrip(" "), query)
        pieces = [(self.instruction,), *shown, asked] if self.instruction else [*shown, asked]
        between = [part for piece in pieces for part in (self.separator, *piece)][1:]
        return joined((*leading, *between))

    def _turns(self, query: Fields, demos: Sequence[tuple[Fields, str]]) -> list[Turn]:
        # The chat template sets the turns apart, so white space before the answer has no place in them.
        ask = self._head.rstrip()
        turns = [Turn("system", self.instruction)] if self.instruction else []
        for fields, answer in demos:
            turns.append(Turn("user", joined(self._text(ask, fields))))
            turns.append(Turn("assistant", joined(self._text(self.response, self._answered(fields, answer)))))
        return [*turns, Turn("user", joined(self._text(ask, query)))]

    def _text(self, text: str, fields: Fields) -> "tuple[str | Soft, ...]":
        """The text filled, with the soft prompt's tokens in its soft slots."""
        filled = _filled(text, fields, self.name)
        return tuple(part if isinstance(part, str) else self._soft(part) for part in filled)

    def _soft(self, tokens: range) -> Soft:
        from templates.soft.prompt import SoftPrompt

        if not isinstance(self.soft, SoftPrompt):
            raise TemplateError(f"template {self.name!r} has soft slots, which take a soft prompt, got {self.soft!r}")
        return self.soft.part(tokens.start, tokens.stop)

    def _answered(self, fields: Fields, answer: str) -> Fields:
        return {**fields, "answer": self.verbalizer.word(answer) if self.verbalizer else answer}
