"""PET: several ways to word a task, asked together; what they think of examples without labels teaches a classifier.

Schick & Schütze 2020, arXiv:2001.07676, section 3. The final classifier is anything that learns from soft labels.

Dimensions: M patterns, N examples, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from templates.errors import UserError
from templates.soft.discrete.scoring import BATCH, label_scores, numbered
from templates.soft.frozen import Frozen
from templates.soft.rows import Labelled
from templates.template import Template
from templates.verbalizer import verbalizer_of

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Pattern:
    """A way to word the task, and the model that is asked so.

    Args:
        frozen: the model: one for all patterns, or for each one that was trained with it.
        template: with a verbalizer, and perhaps a prompt that was trained with it.
    """

    frozen: Frozen
    template: Template


def ensemble(scores: Array, weights: Sequence[float]) -> Array:
    """All patterns' scores as one: Σ_p w(p) · s_p(l|x) / Σ_p w(p), [N, L] (section 3.3).

    >>> ensemble(np.array([[[1.0, 0.0]], [[0.0, 4.0]]]), [3, 1]).tolist()
    [[0.75, 1.0]]

    Args:
        scores: [M, N, L].
        weights: M of them, none below zero.
    Raises:
        UserError: another number of weights than of patterns, or none above zero.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if shares.shape != scores.shape[:1] or (shares < 0).any() or not shares.sum() > 0:
        raise UserError(f"{len(scores)} patterns have a weight each, none below zero and one above, got {weights}")
    found: Array = np.einsum("m,mnl->nl", shares / shares.sum(), scores)
    return found


def softened(scores: Array, temperature: float = 2.0) -> Array:
    """Probabilities of labels, softmax(s / T), [N, L]; T = 2 lets a student see what the teachers were unsure of.

    Args:
        scores: [N, L].
        temperature: T.
    """
    if temperature <= 0:
        raise UserError(f"a temperature is positive, got {temperature}")
    scaled = scores / temperature
    found: Array = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
    return found


def accuracies(scores: Array, labels: Sequence[int]) -> list[float]:
    """Share of the examples in which each pattern's best label is the right one, M of them.

    Args:
        scores: [M, N, L].
        labels: N numbers below L.
    """
    return [float(share) for share in (scores.argmax(2) == np.asarray(labels)).mean(1)]


def pattern_scores(patterns: Sequence[Pattern], examples: Sequence[Labelled], batch: int = BATCH) -> Array:
    """What each pattern says of each label for each example, [M, N, L].

    Log-probabilities of the labels' words; for words of one token they differ from the paper's unnormalised scores by
    a number that is the same for all labels of an example, and leaves every probability as it is.

    Args:
        patterns: with verbalizers of the same labels.
        examples: answers do not matter.
        batch: rows that run at once; of patterns with one model and no trained prompt they run together.
    Raises:
        UserError: there is no pattern, one has no verbalizer, or verbalizers of other labels.
    """
    labels = labels_of(patterns)
    found = np.empty((len(patterns), len(examples), len(labels)))
    for numbers in _together(patterns):
        asked = [(patterns[number].template, example) for number in numbers for example in examples]
        scores = label_scores(patterns[numbers[0]].frozen, asked, labels, batch) if asked else np.empty(0)
        found[numbers] = scores.reshape(len(numbers), len(examples), len(labels))
    return found


def weights_of(
    patterns: Sequence[Pattern],
    examples: Sequence[Labelled],
    by: Literal["uniform", "accuracy"] = "accuracy",
    batch: int = BATCH,
) -> list[float]:
    """What each pattern counts: the same, or its accuracy on the training examples before it was trained.

    Args:
        patterns: as they were before training.
        examples: the training examples.
        by: "uniform" or "accuracy"; all the same where no pattern gets anything right.
        batch: rows that run at once.
    """
    if by == "uniform":
        return [1.0] * len(patterns)
    shares = accuracies(pattern_scores(patterns, examples, batch), numbered(examples, labels_of(patterns)))
    return shares if any(shares) else [1.0] * len(patterns)


def soft_labels(
    patterns: Sequence[Pattern],
    examples: Sequence[Labelled],
    weights: Sequence[float] | None = None,
    temperature: float = 2.0,
    batch: int = BATCH,
) -> Array:
    """Probabilities of labels for examples without any, [N, L]: what the final classifier learns from (section 3.3).

    Args:
        patterns: trained or not.
        examples: answers do not matter.
        weights: see `weights_of`; None counts all the same.
        temperature: T.
        batch: rows that run at once.
    """
    return softened(_joint(patterns, examples, weights, batch), temperature)


def classify(
    patterns: Sequence[Pattern],
    examples: Sequence[Labelled],
    weights: Sequence[float] | None = None,
    batch: int = BATCH,
) -> list[str]:
    """The label that all patterns together find the most likely, for each example; see `soft_labels`."""
    labels = labels_of(patterns)
    return [labels[number] for number in _joint(patterns, examples, weights, batch).argmax(1)]


def labels_of(patterns: Sequence[Pattern]) -> tuple[str, ...]:
    """The labels of all patterns, in the order of the first one's verbalizer.

    Raises:
        UserError: there is no pattern, or two of them have other labels.
    """
    if not patterns:
        raise UserError("an ensemble has at least one pattern, got none")
    labels = verbalizer_of(patterns[0].template).labels
    for pattern in patterns:
        if set(verbalizer_of(pattern.template).labels) != set(labels):
            raise UserError(
                f"template {pattern.template.name!r} has the labels {list(verbalizer_of(pattern.template).labels)} and "
                f"the first one {list(labels)}; patterns of one ensemble share them"
            )
    return labels


def _joint(
    patterns: Sequence[Pattern], examples: Sequence[Labelled], weights: Sequence[float] | None, batch: int
) -> Array:
    scores = pattern_scores(patterns, examples, batch)
    return ensemble(scores, weights if weights is not None else [1.0] * len(patterns))


def _together(patterns: Sequence[Pattern]) -> list[list[int]]:
    """Numbers of the patterns that can run in one batch: of one model, with the same trained prompt or none."""
    found: dict[tuple[int, str], list[int]] = {}
    for number, pattern in enumerate(patterns):
        soft = pattern.template.soft
        found.setdefault((id(pattern.frozen), soft.digest if soft is not None else ""), []).append(number)
    return list(found.values())
