import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoConfig

from icl import Request
from icl.backends import VLLM, Transformers
from templates.errors import Unsupported, UserError
from templates.prompt import Prompt, Turn
from templates.soft import Base, Prefix, SoftPrompt, base_of

pytest.importorskip("vllm")
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Base:
    """Two heads of attention, one of keys and values."""
    return base_of(str(tiny_model), AutoConfig.from_pretrained(tiny_model))


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> Iterator[Transformers]:
    """The same model on transformers."""
    lm = Transformers(str(tiny_model), dtype="float32")
    yield lm
    asyncio.run(lm.aclose())


def soft(base: Base, seed: int, tokens: int = 3) -> SoftPrompt:
    """Vectors as large as embeddings are."""
    return SoftPrompt(0.3 * np.random.default_rng(seed).normal(size=(tokens, base.hidden)), base)


def prompts(base: Base) -> list[Prompt]:
    """In front, in the middle, at several places, at the end, longer than a block of the cache, in chats; and none."""
    a, b, long = soft(base, 1), soft(base, 2, tokens=5), soft(base, 3, tokens=40)
    return [
        (a, "Q: 3 apples and 4 more?\nA:"),
        ("Q: 3 apples", b, " and 4 more?\nA:"),
        (b, "Q: 3", a, " apples", a, "?\nA:"),
        ("Q: 5 pens\nA:", a),
        (long, "Q: 5 pens\nA:"),
        (Turn("user", ("Q: ", b, "5 pens")),),
        (a, Turn("system", "Count."), Turn("user", "Q: 5 pens"), Turn("assistant", "There are")),
        "Q: 5 pens\nA:",
    ]


async def test_greedy_text_is_that_of_transformers(engine: VLLM, reference: Transformers, base: Base) -> None:
    """Eight prompts in one batch on vLLM: the same tokens, counts and all, as on transformers."""
    requests = [Request(prompt, max_tokens=12) for prompt in prompts(base)]
    ours = await asyncio.gather(*map(engine.generate, requests))
    theirs = await asyncio.gather(*map(reference.generate, requests))
    assert [(one.text, one.tokens, one.prompt_tokens) for [one] in ours] == [
        (one.text, one.tokens, one.prompt_tokens) for [one] in theirs
    ]


async def test_scores_are_those_of_transformers(engine: VLLM, reference: Transformers, base: Base) -> None:
    """Labels of one token and of several."""
    labels = [" yes", " no, 17 sheep"]
    for prompt in prompts(base):
        for one, other in zip(await engine.score(prompt, labels), await reference.score(prompt, labels), strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


async def test_many_prompts_in_one_batch_are_separate_runs(engine: VLLM, base: Base) -> None:
    """64 requests with 8 different soft prompts of the same length, at once: each is what it is when it comes alone."""
    several = [soft(base, seed, tokens=33) for seed in range(8)]  # one block of the prefix cache, and a token
    requests = [
        Request((several[i % 8], f"Q: {i // 8} pens\nA:"), n=2, temperature=0.9, max_tokens=8, seed=i)
        for i in range(64)
    ]
    together = await asyncio.gather(*map(engine.generate, requests))
    alone = [await engine.generate(request) for request in requests[::7]]
    assert [[one.text for one in samples] for samples in together[::7]] == [
        [one.text for one in samples] for samples in alone
    ]
    assert len({samples[0].text for samples in together}) > 32


async def test_what_it_cannot_run_is_refused(engine: VLLM, base: Base, tiny_model: Path) -> None:
    """Prefixes, another model's prompts, and soft prompts on an engine that was started for text."""
    width = base.layers * 2 * base.kv_heads * base.head_size
    with pytest.raises(Unsupported, match="runs soft prompts and no prefixes"):
        await engine.generate(Request((Prefix(np.zeros((2, width)), base), "Q:")))
    with pytest.raises(UserError, match="was trained for 'other' with hidden=32"):
        await engine.score((SoftPrompt(np.zeros((2, 32)), Base("other", 2, hidden=32)), "Q:"), [" yes"])
    text = VLLM(str(tiny_model), dtype="float32", enforce_eager=True, enable_prompt_embeds=False)
    try:
        with pytest.raises(Unsupported, match="enable_prompt_embeds=True"):
            await text.generate(Request((soft(base, 1), "Q:")))
    finally:
        await text.aclose()
