"""LM-BFF: the words that stand for labels, by what a model says; and demonstrations that are like the question.

Gao et al. 2020, arXiv:2012.15723, sections 5.1 and 6. Templates that are generated (section 5.2) are in `generated`.

Dimensions: N examples, L labels, V vocabulary, A assignments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from templates.errors import NotEnoughDemos, UserError
from templates.soft.discrete.labelwords import lead_of
from templates.soft.discrete.scoring import BATCH, numbered, vocabulary_logprobs
from templates.soft.discrete.vocabulary import texts, words
from templates.soft.frozen import Frozen
from templates.soft.rows import Labelled
from templates.template import Template
from templates.verbalizer import Verbalizer

Array = npt.NDArray[Any]

_MOST = 10**6  # assignments that are compared
_PIECE = 2**12  # of them at once


@dataclass(frozen=True)
class Assignment:
    """A word for each label.

    Args:
        verbalizer: the words.
        accuracy: share of the training examples that the model gets right with them, untrained.
        likelihood: mean log-probability of the right label's word.
    """

    verbalizer: Verbalizer
    accuracy: float
    likelihood: float


def top_words(logprobs: Array, labels: Sequence[int], count: int, k: int, allowed: Array) -> list[list[int]]:
    """For each label the k tokens of the highest Σ log p(token | x) over its own examples, best first (equation 4).

    Args:
        logprobs: [N, V], of each token in the answer's place.
        labels: N numbers below L.
        count: L.
        k: tokens of each label, at the most as many as are allowed.
        allowed: [V], which tokens are words.
    """
    own, found = np.asarray(labels), []
    for label in range(count):
        sums = np.where(allowed, logprobs[own == label].sum(0, dtype=np.float64), -np.inf)
        found.append([int(token) for token in np.argsort(-sums, kind="stable")[: min(k, int(allowed.sum()))]])
    return found


def ranked(
    logprobs: Array, labels: Sequence[int], candidates: Sequence[Sequence[int]], n: int
) -> list[tuple[tuple[int, ...], float, float]]:
    """The n best assignments of a token to each label: tokens, accuracy, mean log-probability of the right token.

    Those that get the most examples right come first; of as good ones those that are more sure.

    Args:
        logprobs: [N, V].
        labels: N numbers below L.
        candidates: L lists of tokens; no token stands for two labels.
        n: how many.
    Raises:
        UserError: more assignments than can be compared, or none.
    """
    if (many := prod(len(its) for its in candidates)) > _MOST:
        raise UserError(f"{many} assignments of words to {len(candidates)} labels are too many to compare; lower k")
    own = np.asarray(labels)
    if not (apart := [its for its in product(*candidates) if len(set(its)) == len(its)]):
        raise UserError(f"no words are left that tell {len(candidates)} labels apart; raise k")
    combined = np.array(apart, dtype=np.intp)  # [A, L]
    right, sure = [], []
    for start in range(0, len(combined), _PIECE):
        said = logprobs[:, combined[start : start + _PIECE]]  # [N, A, L]
        right.append((said.argmax(2) == own[:, None]).mean(0))
        sure.append(said[np.arange(len(own)), :, own].mean(0, dtype=np.float64))
    accuracy, likelihood = np.concatenate(right), np.concatenate(sure)
    best = np.lexsort((-likelihood, -accuracy))[:n]
    return [(tuple(int(token) for token in combined[i]), float(accuracy[i]), float(likelihood[i])) for i in best]


def assignments(
    frozen: Frozen,
    template: Template,
    examples: Sequence[Labelled],
    labels: Sequence[str],
    *,
    k: int = 100,
    n: int = 10,
    batch: int = BATCH,
) -> list[Assignment]:
    """The n best words for the labels, by the model's answers to the examples as it is (section 5.1).

    The paper then trains with each of the n and keeps the one that is best on dev examples.

    Args:
        frozen: the model, causal or masked; it sees each example once.
        template: how examples are worded; its verbalizer, if there is one, does not matter.
        examples: with labels as answers, of each label some.
        labels: in the task's order.
        k: words of each label that are combined; as long as k^L ≤ 10^6.
        n: how many.
        batch: rows that run at once.
    Raises:
        UserError: an example with another label, a label without examples, or k^L too high.
    """
    numbers = numbered(examples, labels)
    if missing := [label for number, label in enumerate(labels) if number not in numbers]:
        raise UserError(f"there is no example of {missing}; give some of each label")
    logprobs = vocabulary_logprobs(frozen, template, examples, batch)
    size = logprobs.shape[1]
    allowed = words(frozen.tokenizer, size, lead_of(template, examples[0]))
    candidates = top_words(logprobs, numbers, len(labels), k, allowed)
    said = texts(frozen.tokenizer, size)
    return [
        Assignment(
            Verbalizer({label: said[token].strip() for label, token in zip(labels, tokens, strict=True)}), right, sure
        )
        for tokens, right, sure in ranked(logprobs, numbers, candidates, n)
    ]


def demonstrations(
    similarity: Array, labels: Sequence[int], count: int, random: Random, share: float = 0.5
) -> list[int]:
    """One training example of each label for a question, drawn from those that are most like it (section 6.2).

    Args:
        similarity: [N], of each training example to the question; -inf for one that must not be shown, as itself.
        labels: N numbers below L.
        count: L.
        random: of this question alone: Random(f"{seed}/{example.id}").
        share: of each label's examples those that may be drawn: the most similar half in the paper, rounded up.
    Returns:
        L numbers of examples, in the order of the labels.
    Raises:
        NotEnoughDemos: a label without examples.
    """
    if not 0 < share <= 1:
        raise UserError(f"a share of the most similar examples is in (0, 1], got {share}")
    own, found = np.asarray(labels), []
    for label in range(count):
        its = np.flatnonzero((own == label) & np.isfinite(similarity))
        if not len(its):
            raise NotEnoughDemos(f"label number {label} has no example to show; give one of each label")
        near = its[np.argsort(-similarity[its], kind="stable")][: int(np.ceil(share * len(its)))]
        found.append(int(random.choice(near.tolist())))
    return found
