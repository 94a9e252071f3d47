"""Asking a model with a mixture of soft prompts: every prompt's label scores, weighed.

Dimensions: J prompts, Q queries, L labels.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt

from icl.concurrency import gather
from icl.example import Example
from icl.lm import ScoringLM
from templates.soft import Mixture, SoftPrompt, mixed
from templates.template import Template
from templates.verbalizer import probable

Array = npt.NDArray[np.float64]


async def mixture_scores(lm: ScoringLM, mixture: Mixture, template: Template, queries: Sequence[Example]) -> Array:
    """log Σ_j w_j p(label|prompt_j, query), [Q, L] (Qin & Eisner 2021, arXiv:2104.06599, section 3.4).

    All prompts and queries are asked at once.

    Args:
        lm: the model that the prompts are for.
        mixture: as `train_mixture` makes it.
        template: that it was trained with, with a verbalizer, whose labels are in the order of the scores.
        queries: what is asked.
    Raises:
        UserError: the template has no verbalizer, or one whose scores are no probabilities.
        MissingSlot: a query lacks a field; names it.
    """
    verbalizer = probable(template)
    words = [word for its in verbalizer.words.values() for word in its]
    worded = replace(template, verbalizer=None)  # words are said as they are
    for query in queries:
        template.check(query.fields, query.id)

    async def said(asked: tuple[SoftPrompt, Example]) -> Array:
        prompt, query = asked
        continuations = [worded.continuation(query.shown, word) for word in words]
        scores = await lm.score(replace(worded, soft=prompt).render(query.fields), continuations)
        return verbalizer.scores({word: score.logprobs for word, score in zip(words, scores, strict=True)})

    found = await gather(said, list(product(mixture.prompts, queries)))  # J·Q of [L]
    return mixed(np.reshape(found, (len(mixture), len(queries), len(verbalizer.labels))), mixture.weights)
