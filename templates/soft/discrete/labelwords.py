"""AutoPrompt's words for labels: a classifier learns labels from hidden states, then looks at words instead.

Shin et al. 2020, arXiv:2010.15980, section 2.3.

Dimensions: N examples, L labels, H hidden, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from templates.errors import UserError
from templates.soft.discrete.scoring import BATCH, numbered, template_states
from templates.soft.discrete.vocabulary import texts, words
from templates.soft.frozen import Frozen
from templates.soft.regression import regression
from templates.soft.rows import Labelled
from templates.template import Template
from templates.verbalizer import Verbalizer

Array = npt.NDArray[Any]


def label_words(
    frozen: Frozen,
    template: Template,
    examples: Sequence[Labelled],
    labels: Sequence[str],
    *,
    k: int = 3,
    decay: float = 1e-3,
    batch: int = BATCH,
) -> Verbalizer:
    """The k words that stand for each label best: those whose output embeddings the classifier takes for it.

    Args:
        frozen: the model, causal or masked.
        template: how examples are worded; its verbalizer, if there is one, does not matter.
        examples: with labels as answers, of each label some.
        labels: in the task's order.
        k: words of each.
        decay: half of it times the squared weights is added to the classifier's mean loss.
        batch: rows that run at once.
    Returns:
        A verbalizer; a word stands for the label that it says most, so that no two share one.
    Raises:
        UserError: an example with another label, or fewer words for a label than k.
    """
    numbers = numbered(examples, labels)
    seen = template_states(frozen, template, examples, batch).astype(np.float64)
    # Of states as they are: a word is to stand in their place.
    weights, bias = regression(seen, np.array(numbers), len(labels), decay * len(seen), standardized=False)
    outputs = frozen.model.get_output_embeddings().weight.detach().float().cpu().numpy()  # [V, H]
    scores = word_scores(weights, bias, outputs)
    allowed = words(frozen.tokenizer, len(outputs), lead_of(template, examples[0]))
    said = texts(frozen.tokenizer, len(outputs))
    chosen = distinct(np.where(allowed, scores, -np.inf), k)
    for label, its in zip(labels, chosen, strict=True):
        if len(its) < k:
            raise UserError(f"asked for k={k} words of label {label!r}, and {len(its)} say it most; lower k")
    return Verbalizer({label: [said[word].strip() for word in its] for label, its in zip(labels, chosen, strict=True)})


def word_scores(weights: Array, bias: Array, outputs: Array) -> Array:
    """Log-probability of each label for each word, log p(y|e_w) with the word in the hidden state's place, [L, V].

    Args:
        weights: [L, H].
        bias: [L].
        outputs: [V, H], the output layer's embeddings of words (equation 6).
    """
    scores = weights @ outputs.T + bias[:, None]
    found: Array = scores - np.logaddexp.reduce(scores, axis=0)
    return found


def distinct(scores: Array, k: int) -> list[list[int]]:
    """For each label the k words of the highest scores among those that score highest for it, best first.

    Args:
        scores: [L, V], -inf for what may not be chosen.
        k: at the most.
    """
    owner = scores.argmax(0)
    found = []
    for label, its in enumerate(scores):
        mine = np.where((owner == label) & np.isfinite(its), its, -np.inf)
        order = np.argsort(-mine, kind="stable")[:k]
        found.append([int(word) for word in order if np.isfinite(mine[word])])
    return found


def lead_of(template: Template, example: Labelled) -> str:
    """What stands between the template's prompt and an answer: mostly a space."""
    plain = Template(template.text, response=template.response)
    said = plain.continuation(example.shown, "x")
    return said[: len(said) - len(said.lstrip())]
