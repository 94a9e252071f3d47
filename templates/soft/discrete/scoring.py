"""What a model says of examples: of each label, of every word, in its hidden states; all of them in batches.

Dimensions: N examples, L labels, V vocabulary, H hidden, R rows.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from templates.errors import UserError
from templates.soft.batches import in_batches, states
from templates.soft.frozen import Frozen
from templates.soft.prompt import Prefix
from templates.soft.rows import Batch, Labelled, Row, named
from templates.soft.words import rows_of_words, word_logprobs
from templates.template import Template
from templates.verbalizer import verbalizer_of

Array = npt.NDArray[Any]

BATCH = 32  # rows that run at once


def label_scores(
    frozen: Frozen, asked: Sequence[tuple[Template, Labelled]], labels: Sequence[str], batch: int = BATCH
) -> Array:
    """How likely each label is, for examples in templates: log-scores [N, L].

    A label's score is that of its words, as the template's verbalizer reads them.

    Args:
        frozen: the model.
        asked: templates that have verbalizers of the same labels and the same trained prompt, or none; with an
            example each.
        labels: in the order of the scores.
        batch: rows that run at once.
    """
    worded, words = [], []
    for template, example in asked:
        own = verbalizer_of(template)
        words.append([word for label in own.labels for word in own.words[label]])
        worded.append(rows_of_words(frozen, template, example, words[-1], room_of(frozen, template)))
    prompt = prompt_of(asked[0][0], frozen)
    with frozen.held(), torch.no_grad():
        said = word_logprobs(frozen, worded, prompt, batch)
    scores = np.empty((len(asked), len(labels)))
    for number, ((template, _), its, chances) in enumerate(zip(asked, words, said, strict=True)):
        own = verbalizer_of(template)
        found = own.scores(dict(zip(its, chances, strict=True)))
        scores[number] = found[[own.labels.index(label) for label in labels]]
    return scores


def vocabulary_logprobs(frozen: Frozen, template: Template, examples: Sequence[Labelled], batch: int = BATCH) -> Array:
    """Log-probability of every token in the place of the answer's first one, [N, V] float32.

    Of a masked model there is one mask.
    """
    prompt = prompt_of(template, frozen)

    def said(some: Batch) -> list[Array]:
        return list(frozen.logits(frozen.hidden(some, prompt)).log_softmax(-1).cpu().numpy())

    with frozen.held(), torch.no_grad():
        return np.stack(in_batches(frozen, asked_once(frozen, template, examples), batch, said))


def template_states(frozen: Frozen, template: Template, examples: Sequence[Labelled], batch: int = BATCH) -> Array:
    """What the output layer is given in the place of the answer's first token, [N, H] float32."""
    rows = asked_once(frozen, template, examples)
    return states(frozen, rows, prompt_of(template, frozen), batch).numpy()


def asked_once(frozen: Frozen, template: Template, examples: Sequence[Labelled]) -> list[Row]:
    """A row for each example with an answer of one token; which one it is does not matter to what is predicted."""
    wordless, room = replace(template, verbalizer=None), room_of(frozen, template)
    rows = [frozen.row(wordless, example, "a", room, end=False) for example in examples]
    return [row.begun for row in rows]


def prompt_of(template: Template, frozen: Frozen) -> Tensor | None:
    """The template's trained prompt as a tensor, None where it has none."""
    if template.soft is None:
        return None
    template.soft.base.check(frozen.base)
    return torch.tensor(template.soft.vectors, device=frozen.device)


def room_of(frozen: Frozen, template: Template) -> int:
    """Tokens that a row may have."""
    return frozen.context - (len(template.soft) if isinstance(template.soft, Prefix) else 0)


def numbered(examples: Sequence[Labelled], labels: Sequence[str]) -> list[int]:
    """Each example's label by its number.

    Raises:
        UserError: there are no examples, or one has another label; names it.
    """
    if not examples:
        raise UserError("there are no examples to learn from; give some, with answers")
    for example in examples:
        if example.answer not in labels:
            raise UserError(f"{named(example)} has the label {example.answer!r}; the labels are {list(labels)}")
    return [labels.index(example.answer or "") for example in examples]
