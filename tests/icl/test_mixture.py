import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icl import Completion, Example, Request, Score
from icl.backends import Transformers
from icl.mixture import mixture_scores
from icl.tiny import TINY
from templates import Prompt, Template, Verbalizer
from templates.errors import MissingSlot, UserError
from templates.soft import Base, Mixture, SoftPrompt

BASE = Base("some/model", 2, hidden=4)
ONE, TWO = (SoftPrompt(np.full((2, 4), number), BASE) for number in (1.0, 2.0))
MIXTURE = Mixture([ONE, TWO], [0.75, 0.25])
TEMPLATE = Template("Review: {text}\nIt was {answer}", verbalizer=Verbalizer({"pos": ["great", "good"], "neg": "bad"}))
QUERIES = [Example("1", {"text": "a joy"}), Example("2", {"text": "a bore"})]


class Said:
    """A model that says what it is told to, all requests at once: each waits until four are there."""

    name = "said"

    def __init__(self, chances: dict[Prompt, list[float]]) -> None:
        self.chances = chances
        self.asked: list[Sequence[str]] = []
        self.all = asyncio.Event()

    async def generate(self, request: Request) -> list[Completion]:
        """Nothing."""
        raise NotImplementedError

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """The prompt's own chances."""
        self.asked.append(continuations)
        if len(self.asked) == len(self.chances):
            self.all.set()
        await self.all.wait()
        return [Score((float(np.log(chance)),)) for chance in self.chances[prompt]]


async def test_every_prompt_is_asked_and_weighed() -> None:
    """By hand: pos is 3/4 (0.5 + 0.3) + 1/4 (0.2 + 0.2) = 0.7 of the first query, and 0.3 of the second.

    All four requests wait for each other: they go out together.
    """
    first, second = "Review: a joy\nIt was", "Review: a bore\nIt was"
    lm = Said(
        {
            (ONE, first): [0.5, 0.3, 0.2],
            (TWO, first): [0.2, 0.2, 0.6],
            (ONE, second): [0.1, 0.1, 0.8],
            (TWO, second): [0.5, 0.1, 0.4],
        }
    )
    found = await asyncio.wait_for(mixture_scores(lm, MIXTURE, TEMPLATE, QUERIES), 10)
    assert np.allclose(np.exp(found), [[0.7, 0.3], [0.3, 0.7]])
    assert lm.asked == [[" great", " good", " bad"]] * 4


async def test_what_cannot_be_asked_is_refused() -> None:
    """A template without labels, one whose scores are means, a query without its field; nobody asks nothing."""
    lm, means = Said({}), Verbalizer({"pos": ["great"], "neg": ["bad"]}, tokens="mean")
    with pytest.raises(UserError, match="which is no label's probability, and probabilities are what a mixture weighs"):
        await mixture_scores(lm, MIXTURE, replace(TEMPLATE, verbalizer=means), QUERIES)
    with pytest.raises(UserError, match="has no verbalizer"):
        await mixture_scores(lm, MIXTURE, replace(TEMPLATE, verbalizer=None), QUERIES)
    with pytest.raises(MissingSlot, match="example '3'"):
        await mixture_scores(lm, MIXTURE, TEMPLATE, [Example("3", {"review": "a joy"})])
    assert (await mixture_scores(lm, MIXTURE, TEMPLATE, [])).shape == (0, 2)


async def test_a_mixture_of_one_prompt_twice_says_what_the_prompt_says(tmp_path: Path) -> None:
    """On the bundled model, with a mixture from disk."""
    from transformers import AutoConfig

    from templates.soft import base_of

    base = base_of(TINY, AutoConfig.from_pretrained(TINY))
    prompt = SoftPrompt(np.random.default_rng(0).normal(size=(2, base.hidden)) / 10, base)
    mixture = Mixture.load(Mixture([prompt, prompt], [0.75, 0.25]).save(tmp_path / "m"))
    lm = Transformers(TINY)
    try:
        found = await mixture_scores(lm, mixture, TEMPLATE, QUERIES)
        asked = replace(TEMPLATE, soft=prompt).render(QUERIES[1].fields)
        alone = await lm.score(asked, [" great", " good", " bad"])
    finally:
        await lm.aclose()
    said = {word: score.logprobs for word, score in zip(["great", "good", "bad"], alone, strict=True)}
    assert TEMPLATE.verbalizer is not None
    assert np.allclose(found[1], TEMPLATE.verbalizer.scores(said), atol=1e-4)
