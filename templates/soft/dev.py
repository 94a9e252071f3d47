"""How good a prompt, or a tuned model, is on examples that it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from templates.soft.rows import Labelled, Row, cut, rows_of
from templates.template import Template

if TYPE_CHECKING:
    from torch import Tensor

    from templates.soft.frozen import Frozen


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
        self._frozen, self._batch, self._verbalizer = frozen, batch, template.verbalizer
        self._own = rows_of(frozen, template, examples, room)
        self._answers = [example.answer for example in examples]
        self._words = (
            [word for its in template.verbalizer.words.values() for word in its] if template.verbalizer else []
        )
        wordless = replace(template, verbalizer=None)
        self._labelled = [
            frozen.row(wordless, example, word, room, end=False) for example in examples for word in self._words
        ]

    def __call__(self, prompt: "Tensor | None") -> Dev:
        """Run all of them, with the prompt or, where the model itself is trained, without."""
        own = self._run(self._own, prompt)
        tokens = sum(len(chances) for chances, _ in own)
        loss = -sum(sum(chances) for chances, _ in own) / tokens
        if self._verbalizer is None:
            right = [all(greedy) for _, greedy in own]
        else:
            per_word = cut([chances for chances, _ in self._run(self._labelled, prompt)], len(self._words))
            labels = self._verbalizer.labels
            said = [
                labels[self._verbalizer.scores(dict(zip(self._words, its, strict=True))).argmax()] for its in per_word
            ]
            right = [one == answer for one, answer in zip(said, self._answers, strict=True)]
        return Dev(sum(right) / len(right), loss)

    def _run(self, rows: Sequence[Row], prompt: "Tensor | None") -> list[tuple[list[float], list[float]]]:
        """For each row its answer's log-probabilities, and whether each token is the most likely one."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].tokens))
        found = {}
        for some in cut(order, self._batch):
            batch = self._frozen.batch([rows[i] for i in some])
            for i, said in zip(some, self._frozen.logprobs(batch, prompt), strict=True):
                chances, greedy = said.tolist()
                found[i] = (chances, greedy)
        return [found[i] for i in range(len(rows))]
