"""Labels and the words that stand for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from templates.answers import Reader, label
from templates.errors import TemplateError, UnknownName, UserError

if TYPE_CHECKING:
    from templates.template import Template

Array = np.ndarray


@dataclass(frozen=True)
class Verbalizer:
    """Label <-> words.

    >>> sentiment = Verbalizer({"pos": ["great", "good"], "neg": ["terrible"]})
    >>> sentiment.word("pos"), sentiment.read("It was good.")
    ('great', 'pos')

    Args:
        words: for each label, in the order of the task's labels, its words; the first one is shown in demonstrations.
        tokens: how words of different token lengths are compared: the `sum` of their tokens' log-probabilities
            (the probability of the whole word) or their `mean` (which does not punish long words).
    """

    words: Mapping[str, Sequence[str]]
    tokens: Literal["sum", "mean"] = "sum"
    _read: Reader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse words that would make reading ambiguous."""
        words = {name: (w,) if isinstance(w, str) else tuple(w) for name, w in self.words.items()}
        owners: dict[str, str] = {}
        for name, its in words.items():
            if not its or not all(word.strip() for word in its):
                raise TemplateError(f"label {name!r} needs at least one word, none of them empty, got {list(its)}")
            for word in its:
                other = owners.setdefault(word.strip().casefold(), name)
                if other != name:
                    raise TemplateError(f"the word {word!r} stands for both {other!r} and {name!r}; give each its own")
        if not words:
            raise TemplateError("a verbalizer needs at least one label, got none")
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "_read", label(words))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the task's order."""
        return tuple(self.words)

    def word(self, name: str) -> str:
        """The word that stands for the label in a demonstration."""
        if name not in self.words:
            raise UnknownName(f"no label {name!r}; this verbalizer has {list(self.words)}")
        return self.words[name][0]

    def read(self, text: str) -> str | None:
        """The label that the text names, or None."""
        return self._read(text)

    def scores(self, logprobs: Mapping[str, Sequence[float]]) -> Array:
        """One log-score for each label, [labels], from the token log-probabilities of each word.

        A label's score is the logarithm of the summed probability of its words.
        """
        reduce = np.sum if self.tokens == "sum" else np.mean
        return np.array([np.logaddexp.reduce([reduce(logprobs[word]) for word in its]) for its in self.words.values()])


def verbalizer_of(template: "Template") -> Verbalizer:
    """The template's verbalizer.

    Raises:
        UserError: it has none.
    """
    if template.verbalizer is None:
        raise UserError(
            f"template {template.name!r} has no verbalizer, so that no labels can be scored; give it one: "
            "replace(template, verbalizer=Verbalizer({'pos': ['great'], 'neg': ['terrible']}))"
        )
    return template.verbalizer


def probable(template: "Template") -> Verbalizer:
    """The template's verbalizer, whose scores are log-probabilities, as they must be where they are mixed.

    Raises:
        UserError: it has none, or its scores are means over tokens.
    """
    verbalizer = verbalizer_of(template)
    if verbalizer.tokens != "sum":
        raise UserError(
            f"template {template.name!r} compares words by the {verbalizer.tokens} of their tokens' log-probabilities, "
            "which is no label's probability, and probabilities are what a mixture weighs; use Verbalizer(…, "
            "tokens='sum')"
        )
    return verbalizer
