import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoConfig

from icl import Request
from icl.backends import VLLM, Transformers, vllm
from templates.errors import ModelError, Unsupported, UserError
from templates.prompt import Prompt, Turn
from templates.soft import Base, Prefix, SoftPrompt, base_of
from tests.shapes import make_shape

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


def prefix(base: Base, seed: int, tokens: int = 3) -> Prefix:
    """Keys and values that move what is said."""
    width = base.layers * 2 * base.kv_heads * base.head_size
    return Prefix(np.random.default_rng(seed).normal(size=(tokens, width)), base)


def prompts(base: Base) -> list[Prompt]:
    """In front, in the middle, at several places, at the end, longer than a block of the cache, in chats; and none.

    Prefixes shorter than a block, one block long, longer, and beside soft prompts.
    """
    a, b, long = soft(base, 1), soft(base, 2, tokens=5), soft(base, 3, tokens=40)
    return [
        *((prefix(base, tokens, tokens), "Q: 5 pens\nA:") for tokens in (1, 20, 32, 64, 75)),
        (prefix(base, 1), "Q: 3 apples", b, " and 4 more?\nA:"),
        (prefix(base, 2), Turn("user", ("Q: ", b, "5 pens"))),
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
    """All of them in one batch on vLLM: the same tokens, counts and all, as on transformers."""
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


@pytest.mark.parametrize("made", [soft, prefix])
async def test_many_prompts_in_one_batch_are_separate_runs(
    engine: VLLM, base: Base, made: Callable[..., SoftPrompt | Prefix]
) -> None:
    """64 requests with 8 different prompts of the same length, at once: each is what it is when it comes alone."""
    several = [made(base, seed, tokens=33) for seed in range(8)]  # one block of the prefix cache, and a token
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
    """Another model's prompts, and soft prompts on an engine that was started for text."""
    with pytest.raises(UserError, match="was trained for 'other' with hidden=32"):
        await engine.score((SoftPrompt(np.zeros((2, 32)), Base("other", 2, hidden=32)), "Q:"), [" yes"])
    text = VLLM(str(tiny_model), dtype="float32", enforce_eager=True)
    try:
        await text.generate(Request("Q:", max_tokens=1))
        for one in (soft(base, 1), prefix(base, 1)):
            with pytest.raises(Unsupported, match="soft_prompts=True"):
                await text.generate(Request((one, "Q:")))
    finally:
        await text.aclose()


async def test_prefixes_are_kept_in_the_engines_cache(engine: VLLM, base: Base) -> None:
    """A second question behind the same long text runs its own words alone; another prefix shares nothing of it."""
    text = "Q: " + "3 apples and 4 more, " * 30
    first, second, other = [
        Request((prefix(base, seed, tokens=40), text, end), max_tokens=2)
        for seed, end in ((6, "A"), (6, "B"), (7, "A"))
    ]
    [begun], [again], [apart] = [await engine.generate(one) for one in (first, second, other)]
    assert begun.cached_tokens == apart.cached_tokens == 40
    assert again.prompt_tokens - again.cached_tokens < 32 + 4


@pytest.mark.parametrize("kind", ["gpt2", "gemma3_text"])
async def test_prefixes_survive_preemption_on_other_architectures(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    """Learnt positions, sliding windows; a cache so small that requests are thrown out and begin again."""
    folder = make_shape(kind, tiny_model, tmp_path / kind)
    base = base_of(str(folder), AutoConfig.from_pretrained(folder))
    requests = [
        Request((prefix(base, i % 4, tokens=20 + 13 * (i % 4)), f"Q: {i} pens\nA:"), max_tokens=60) for i in range(12)
    ]
    said = []
    for lm in (
        VLLM(str(folder), dtype="float32", enforce_eager=True, block_size=32, num_gpu_blocks_override=12),
        Transformers(str(folder), dtype="float32"),
    ):
        try:
            said.append([one.text for [one] in await asyncio.gather(*map(lm.generate, requests))])
        finally:
            await lm.aclose()
    assert said[0] == said[1]


def files(place: Path) -> list[Path]:
    """Folders of prefixes, and what is in them."""
    return [*place.glob("icl-prefixes-*"), *place.glob("icl-prefixes-*/*")]


async def test_closing_fails_what_runs_and_removes_the_files(
    base: Base, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests in the engine's hands get this project's error; who is cancelled meanwhile is cancelled."""
    folder = tmp_path_factory.mktemp("t")  # a short name: the engine's sockets are in it
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    lm = VLLM(str(tiny_model), dtype="float32", enforce_eager=True, block_size=32)
    await lm.generate(Request((prefix(base, 1), "Q:"), max_tokens=1))
    running = [
        asyncio.create_task(lm.generate(Request((prefix(base, seed), "Q:"), n=64, temperature=1.0, max_tokens=1900)))
        for seed in range(3)
    ]
    await asyncio.sleep(0.5)
    assert len(files(folder)) == 1 + 3
    running[2].cancel()
    await lm.aclose()
    first, second, third = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(third, asyncio.CancelledError)
    for error in (first, second):
        assert isinstance(error, ModelError)
        assert "was closed" in str(error)
    assert not files(folder)


async def test_the_files_go_even_if_the_engine_does_not_stop(
    base: Base, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever closes hears of it, and nothing is left behind."""

    def stuck() -> None:
        raise RuntimeError("it does not stop")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(vllm, "start", lambda *_: SimpleNamespace(shutdown=stuck))
    lm = VLLM(str(tiny_model))
    with pytest.raises(AttributeError, match="vllm_config"):  # no engine at all
        await lm.generate(Request((prefix(base, 1), "Q:")))
    assert len(files(tmp_path)) == 1 + 1
    with pytest.raises(RuntimeError, match="does not stop"):
        await lm.aclose()
    assert not files(tmp_path)
