"""A template: one text from which the query and its demonstrations are cut."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from templates.answers import Reader
from templates.answers import text as read_text
from templates.errors import MissingSlot, TemplateError
from templates.prompt import Prompt, Turn
from templates.verbalizer import Verbalizer

Fields = Mapping[str, str]

_SLOT = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_ANSWER = "{answer}"


def slots(text: str) -> list[str]:
    """The names of the slots in the text, in order of first appearance; `{{` and `}}` are literal braces."""
    return list(dict.fromkeys(name for name in _SLOT.findall(text) if name))


def fill(text: str, fields: Fields, template: str = "template") -> str:
    """The text with every slot replaced by its field, in one pass: a slot inside a value is left as it is.

    Raises:
        MissingSlot: a slot has no field.
    """
    if missing := [name for name in slots(text) if name not in fields]:
        raise MissingSlot(
            f"template {template!r} needs {missing} but the example has {sorted(fields)}; rename the field or the slot"
        )
    return _SLOT.sub(lambda match: fields[match[1]] if match[1] else match[0][0], text)


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

    @property
    def slots(self) -> list[str]:
        """The fields that a query must have."""
        return [name for name in slots(self.text) if name != "answer"]

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
        """Instruction, demonstrations and query as one prompt: text, or the turns of a chat."""
        if self.chat:
            return tuple(self._turns(query, demos))
        shown = [self.demo(fields, answer) for fields, answer in demos]
        return self.separator.join([*([self.instruction] if self.instruction else []), *shown, self.prompt(query)])

    def _turns(self, query: Fields, demos: Sequence[tuple[Fields, str]]) -> list[Turn]:
        # The chat template sets the turns apart, so white space before the answer has no place in them.
        ask = self._head.rstrip()
        turns = [Turn("system", self.instruction)] if self.instruction else []
        for fields, answer in demos:
            turns.append(Turn("user", fill(ask, fields, self.name)))
            turns.append(Turn("assistant", fill(self.response, self._answered(fields, answer), self.name)))
        return [*turns, Turn("user", fill(ask, query, self.name))]

    def _answered(self, fields: Fields, answer: str) -> Fields:
        return {**fields, "answer": self.verbalizer.word(answer) if self.verbalizer else answer}
