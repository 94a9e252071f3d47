"""Linear probing: which label it is, read from the frozen model's hidden state by logistic regression.

Dimensions: N examples, H hidden, C labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from templates.errors import DataError, UserError
from templates.soft.base import Base
from templates.soft.baselines.folder import Notes, read_notes, write_notes
from templates.soft.baselines.methods import LinearProbe
from templates.soft.baselines.tuned import check_data
from templates.soft.batches import states
from templates.soft.dev import Dev
from templates.soft.families import frozen_of
from templates.soft.folder import replaced, tensors_in
from templates.soft.frozen import Frozen
from templates.soft.made import cost, made_of, worth
from templates.soft.regression import regression
from templates.soft.rows import Labelled, Row, rows_of
from templates.soft.settings import Training
from templates.template import Template

Array = npt.NDArray[np.float64]

FILE = "probe.safetensors"


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier of hidden states: the label of h is argmax_c of weights_c · h + bias_c.

    Args:
        weights: [C, H].
        bias: [C].
        labels: C of them.
        base: the model whose hidden states it reads.
        made: how it came about; see `Notes`.
    """

    weights: Array
    bias: Array
    labels: tuple[str, ...]
    base: Base
    made: Mapping[str, Any]
    kind: ClassVar[str] = "probe"

    @property
    def notes(self) -> Notes:
        """What is written beside it."""
        return Notes(self.kind, self.base, {**self.made, "labels": list(self.labels)})

    def logprobs(self, states: Array) -> Array:
        """Log-probabilities of the labels, [N, C], for hidden states [N, H]."""
        scores = states @ self.weights.T + self.bias
        normed: Array = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        return normed

    def classify(
        self, model: Any, tokenizer: Any, examples: Sequence[Labelled], template: Template, batch: int = 16
    ) -> list[str]:
        """The examples' labels.

        Raises:
            UserError: another model than the one it was made for.
        """
        frozen = frozen_of(model, tokenizer)
        self.base.check(frozen.base)
        rows = [frozen.row(template, one, self.labels[0], frozen.context, end=False) for one in examples]
        return [self.labels[place] for place in self.logprobs(_seen(frozen, rows, batch)).argmax(1)]

    def save(self, path: str | Path) -> Path:
        """Write it as a folder: weights as safetensors, notes as JSON."""
        from safetensors.numpy import save_file

        with replaced(Path(path)) as new:
            save_file({"weights": self.weights, "bias": self.bias}, new / FILE)
            write_notes(self.notes, new)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Probe":
        """What `save` wrote.

        Raises:
            DataError: no such folder, or not a probe's.
        """
        notes = read_notes(Path(path))
        tensors = tensors_in(Path(path) / FILE)
        try:
            return cls(tensors["weights"], tensors["bias"], tuple(notes.made["labels"]), notes.base, notes.made)
        except KeyError as error:
            raise DataError(f"{Path(path) / FILE} is not a probe's ({error!r}); make it again") from error


def probe(
    method: LinearProbe,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Labelled],
    template: Template,
    *,
    dev: Sequence[Labelled] = (),
    training: Training | None = None,
) -> Probe:
    """Fit a probe on the examples; the model stays as it is, to the bit.

    Args:
        method: how.
        model: of transformers.
        tokenizer: its own.
        examples: with labels.
        template: how questions are worded; with a verbalizer, which has the labels.
        dev: examples on which strengths are compared.
        training: of which `batch` alone counts: the problem has one solution, and that is found.

    Raises:
        DataError: an example without a label, with an unknown one, or without room in the context; names it.
        UserError: no labels.
    """
    settings = training or Training()
    check_data(method, template, examples)
    if template.verbalizer is None:
        raise UserError(
            f"a linear probe tells labels apart, and template {template.name!r} has none; say which there are "
            '(--labels "pos=great,neg=bad" or --labels data), or take another method'
        )
    frozen, labels = frozen_of(model, tokenizer), template.verbalizer.labels
    rows, judged = (rows_of(frozen, template, some, frozen.context) for some in (examples, dev))
    known = np.array([labels.index(str(example.answer)) for example in examples])
    seen, other = _seen(frozen, rows, settings.batch), _seen(frozen, judged, settings.batch)
    middle = sorted(method.strengths)[len(method.strengths) // 2]
    best: tuple[Probe, Dev | None] | None = None
    for strength in sorted(method.strengths, reverse=True) if dev else [middle]:
        weights, bias = regression(seen, known, len(labels), strength)
        made = {"strength": strength, **cost(weights.size + bias.size, weights.size + bias.size, frozen.size)}
        found = Probe(weights, bias, labels, frozen.base, made)
        worths = _judged(found, other, dev) if dev else None
        if best is None or (worths and best[1] and worths.better_than(best[1])):
            best = found, worths
    assert best is not None  # noqa: S101 - there is a strength
    notes = made_of(method, settings, template, examples, 0)
    return replace(best[0], made={**notes, **worth(best[1], dev), **best[0].made})


def _seen(frozen: Frozen, rows: Sequence[Row], batch: int) -> Array:
    return states(frozen, rows, None, batch).double().numpy()


def _judged(found: Probe, judged: Array, dev: Sequence[Labelled]) -> Dev:
    chances = found.logprobs(judged)
    known = [found.labels.index(str(example.answer)) for example in dev]
    return Dev(float((chances.argmax(1) == known).mean()), float(-chances[range(len(known)), known].mean()))
