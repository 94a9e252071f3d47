"""How good a prompt, or a tuned model, is on examples that it was not trained on.

Dimensions: N examples, L labels, J prompts, P soft tokens, H hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from templates.soft.batches import in_batches
from templates.soft.rows import Labelled, rows_of
from templates.soft.words import rows_of_words, word_logprobs
from templates.template import Template
from templates.verbalizer import verbalizer_of

if TYPE_CHECKING:
    from torch import Tensor

    from templates.soft.frozen import Frozen

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Dev:
    """A prompt's worth.

    Args:
        score: share of the examples whose label is the most likely one, or, where answers are free, whose answer is
            what the model would say greedily, to the end.
        loss: mean cross-entropy of an answer's token; of free answers this alone counts, as long ones are hardly ever
            said word by word.
    """

    score: float
    loss: float

    def better_than(self, other: "Dev") -> bool:
        """A higher score, or as high a score with a lower loss."""
        return (self.score, -self.loss) > (other.score, -other.loss)

    def __str__(self) -> str:
        return f"{self.score:.1%} (loss {self.loss:.3f})"

    @staticmethod
    def mean(devs: "Sequence[Dev]") -> "Dev":
        """Of several tasks, each of which counts the same, however many examples it has."""
        return Dev(sum(dev.score for dev in devs) / len(devs), sum(dev.loss for dev in devs) / len(devs))


class Judge:
    """Looks at the dev set.

    Args:
        frozen: the model.
        template: with the soft prompt's place.
        examples: at least one.
        room: tokens of a row.
        batch: rows at once.
    """

    def __init__(
        self, frozen: "Frozen", template: Template, examples: Sequence[Labelled], room: int, batch: int
    ) -> None:
        self._frozen, self._batch, self._template = frozen, batch, template
        self._own = rows_of(frozen, template, examples, room)
        self._answers = [str(example.answer) for example in examples]
        self._words = (
            [word for its in template.verbalizer.words.values() for word in its] if template.verbalizer else []
        )
        self._worded = [rows_of_words(frozen, template, example, self._words, room) for example in examples]

    @property
    def rows(self) -> object:
        """What it looks at, for whoever compares two of them."""
        return self._own, self._worded, self._answers

    def __call__(self, prompt: "Tensor | None" = None) -> Dev:
        """Run all of them, with the prompt or, where the model itself is trained, without."""
        if self._template.verbalizer is not None:
            [scores], [own] = self.scores(prompt)
            return self.worth(scores, own)
        said = in_batches(self._frozen, self._own, self._batch, lambda some: self._frozen.logprobs(some, prompt))
        return self._dev([bool(greedy.all()) for _, greedy in said], [sum(chances.tolist()) for chances, _ in said])

    def scores(self, prompt: "Tensor | None", count: int = 1) -> tuple[Array, Array]:
        """Log-scores of the labels [J, N, L], and log-probabilities of the examples' own answers [J, N].

        Args:
            prompt: [J·P, H] of several soft prompts, whose rows run together; else as in `Frozen.hidden`, J being one.
            count: J.
        """
        verbalizer, size = verbalizer_of(self._template), 0 if prompt is None else len(prompt) // count
        worded = [[row.moved(number * size) for row in its] for number in range(count) for its in self._worded]
        chances = word_logprobs(self._frozen, worded, prompt, self._batch)  # J·N questions
        said = [dict(zip(self._words, its, strict=True)) for its in chances]
        answers = self._answers * count
        own = [sum(its[verbalizer.word(answer)]) for its, answer in zip(said, answers, strict=True)]
        scores = np.stack([verbalizer.scores(its) for its in said])
        return scores.reshape(count, -1, len(verbalizer.labels)), np.reshape(own, (count, -1))

    def worth(self, scores: Array, own: Array) -> Dev:
        """What labels and answers with these scores are worth: [N, L] and [N]; see `scores`."""
        labels = verbalizer_of(self._template).labels
        right = [labels[best] == answer for best, answer in zip(scores.argmax(1), self._answers, strict=True)]
        return self._dev(right, own)

    def _dev(self, right: Sequence[bool], own: "Sequence[float] | Array") -> Dev:
        return Dev(sum(right) / len(right), -float(sum(own)) / sum(row.answer for row in self._own))
