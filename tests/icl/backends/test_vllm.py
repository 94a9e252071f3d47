import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from icl import Request
from icl.backends import VLLM
from icl.backends import vllm as module
from icl.lm import Counting, ScoringLM
from templates.errors import ModelError, PromptTooLong
from templates.prompt import Turn
from templates.tokens import encode, split

pytest.importorskip("vllm")
pytestmark = pytest.mark.engine

PROMPT = "Q: A ferry has 14 rows.\nA:"
SAMPLED = Request(PROMPT, n=4, temperature=0.9, top_k=40, max_tokens=12, seed=100)


async def test_sample_i_is_the_sample_of_seed_plus_i(engine: VLLM) -> None:
    """n samples in one request are, one by one, the single samples of the seeds that follow."""
    together = await engine.generate(SAMPLED)
    alone = [await engine.generate(replace(SAMPLED, n=1, seed=100 + i)) for i in range(4)]
    assert together == [replace(one, cached_tokens=together[0].cached_tokens) for (one,) in alone]
    assert len({sample.text for sample in together}) == 4


async def test_greedy_samples_are_all_the_same(engine: VLLM) -> None:
    """Greedy text is asked for once; tokens, prompt tokens and the reason to end are told."""
    first, second = await engine.generate(Request(PROMPT, n=2, max_tokens=5))
    assert first == second
    assert (first.tokens, first.finish, first.logprob) == (5, "length", None)
    assert first.prompt_tokens == (await engine.count([PROMPT]))[0]


async def test_stop_strings_end_the_text(engine: VLLM) -> None:
    """The text ends before the stop string, and says that it stopped."""
    (whole,) = await engine.generate(Request(PROMPT, max_tokens=20))
    stop = whole.text[4:6]
    (cut,) = await engine.generate(Request(PROMPT, max_tokens=20, stop=(stop,)))
    assert (cut.text, cut.finish) == (whole.text[: whole.text.index(stop)], "stop")


async def test_log_probability_of_a_sample_is_its_score(engine: VLLM) -> None:
    """What generation reports for a greedy text, scoring finds for the same text."""
    prompt = "Q: How many seats?\nA:"  # the tiny model says whole words to it, which are cut into the same tokens again
    (said,) = await engine.generate(Request(prompt, max_tokens=3, logprobs=True))
    (score,) = await engine.score(prompt, [said.text])
    assert len(score.logprobs) == said.tokens == 3
    assert said.logprob == pytest.approx(score.sum, abs=1e-4)


@pytest.mark.parametrize("context", [PROMPT, PROMPT * 30])
async def test_labels_by_trie_are_labels_by_prompts(
    engine: VLLM, context: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways to score give the same numbers, and so does transformers in float32."""
    labels = [" free", " free seats", " taken", " rows"]
    scores = {}
    for way in (True, False):
        monkeypatch.setattr(module, "cheaper_than_prompts", lambda *_, way=way: way)
        scores[way] = [score.logprobs for score in await engine.score(context, labels)]
    for by_trie, by_prompt, plain in zip(scores[True], scores[False], naive(engine, context, labels), strict=True):
        np.testing.assert_allclose(by_trie, by_prompt, atol=1e-4)
        np.testing.assert_allclose(by_trie, plain, atol=1e-4)


def naive(engine: VLLM, context: str, labels: list[str]) -> list[list[float]]:
    """Each label's token log-probabilities by transformers, one whole sequence at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(engine.model, dtype=torch.float32)
    found = []
    for label in labels:
        before, target = split(engine._tokenizer, context, label)
        with torch.no_grad():
            logits = model(torch.tensor([[*before.ids, *target]])).logits[0]
        rows = torch.log_softmax(logits, dim=-1)[len(before) - 1 : -1]
        found.append([float(row[token]) for row, token in zip(rows, target, strict=True)])
    return found


async def test_chat_goes_through_the_model_s_own_template(engine: VLLM) -> None:
    """The turns are laid out once, with one beginning-of-text token."""
    ids = encode(engine._tokenizer, (Turn("user", "hi"),))
    assert engine._tokenizer.decode(ids.ids) == "<s><|user|>\nhi\n<|assistant|>\n"
    (said,) = await engine.generate(Request((Turn("user", "hi"),), max_tokens=3))
    assert said.prompt_tokens == len(ids)


async def test_a_prompt_that_does_not_fit_is_refused(engine: VLLM) -> None:
    """Its length and the room are in the message; a completion that does not fit whole is cut at the context."""
    with pytest.raises(PromptTooLong, match=r"the prompt has \d+ tokens and the model has room for 2048"):
        await engine.generate(Request("word " * 3000))
    nearly = "a " * 1000
    room = 2048 - (await engine.count([nearly]))[0]
    (said,) = await engine.generate(Request(nearly, max_tokens=5000))
    assert said.tokens <= room


def test_one_engine_serves_many_event_loops(engine: VLLM) -> None:
    """`asyncio.run` again and again, as `Pipeline.run` does it, reaches the same engine."""
    texts = {asyncio.run(engine.generate(Request(PROMPT, max_tokens=5)))[0].text for _ in range(3)}
    assert len(texts) == 1


async def test_a_cancelled_request_leaves_the_engine_well(engine: VLLM) -> None:
    """A request that is given up is taken off the engine; the next one is answered."""
    task = asyncio.create_task(engine.generate(Request(PROMPT, n=64, temperature=1.0, max_tokens=1500)))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await engine.generate(Request(PROMPT, max_tokens=2))


async def test_what_it_can_do_is_declared(engine: VLLM) -> None:
    """It scores and counts; its name has the model's identity and what changes its words."""
    assert isinstance(engine, ScoringLM)
    assert isinstance(engine, Counting)
    assert await engine.context() == 2048
    assert engine.name.startswith("vllm/")
    assert engine.name.endswith("dtype=float32")


async def test_an_engine_that_cannot_start_says_why(tiny_model: Path) -> None:
    """The model and the engine's own reason are in the error, for every request that waited."""
    broken = VLLM(str(tiny_model), dtype="float32", tensor_parallel_size=-1)
    results = await asyncio.gather(*(broken.generate(Request("a")) for _ in range(2)), return_exceptions=True)
    assert all(isinstance(result, ModelError) and "could not start" in str(result) for result in results)


async def test_closing_while_the_engine_starts(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits hears of it at once; the engine is shut down as soon as it is there; nothing may be asked any more."""
    starting, go, ended = Event(), Event(), Event()

    def start(*_: Any) -> Any:
        starting.set()
        go.wait()
        return SimpleNamespace(shutdown=ended.set)

    monkeypatch.setattr(module, "start", start)
    lm = VLLM(str(tiny_model))
    waiting = asyncio.create_task(lm.generate(Request("a")))
    await asyncio.to_thread(starting.wait)
    closing = asyncio.create_task(lm.aclose())
    try:
        with pytest.raises(ModelError, match="was closed before it answered"):
            await waiting
        assert not ended.is_set()
    finally:
        go.set()
        await closing
    assert ended.is_set()
    with pytest.raises(ModelError, match="was closed"):
        await lm.score("a", ["b"])


def test_a_script_that_forgets_to_close_ends(tiny_model: Path) -> None:
    """An engine that was never closed does not keep the interpreter from ending."""
    code = (
        "import asyncio, json, sys; from icl import Request; from icl.backends import VLLM\n"
        "if __name__ == '__main__':\n"
        "    lm = VLLM(sys.argv[1], dtype='float32', enforce_eager=True)\n"
        "    print(json.dumps(asyncio.run(lm.generate(Request('a', max_tokens=2)))[0].tokens))\n"
    )
    script = tiny_model.parent / "forgetful.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script), str(tiny_model)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == 2
