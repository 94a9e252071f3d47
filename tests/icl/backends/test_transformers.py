import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from tokenizers.processors import ByteLevel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from eval.worlds import sums
from icl.backends.batching import Size
from icl.backends.decoding import Generation
from icl.backends.transformers import Transformers
from icl.lm import Closing, Completion, Counting, Request, ScoringLM
from icl.tiny import TINY
from templates import load_template
from templates.errors import ModelError, PromptTooLong, Unsupported, UserError
from templates.prompt import Turn
from templates.tokens import Encoded, split

LONG = "Q: A farmer has 12 sheep and buys 5 more for 20 dollars each. How many sheep are there now?\nA:"
PROMPTS = [LONG, "Q: 3 apples", "", "A: 7 is the answer.\n\nQ: How many pens are left in the box?\nA: "]


@pytest.fixture(scope="module")
def lm(tiny_model: Path) -> Iterator[Transformers]:
    """The backend with the tiny Llama."""
    lm = Transformers(str(tiny_model), dtype="float32")
    yield lm
    asyncio.run(lm.aclose())


def plain(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer as transformers has them."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def generated(folder: Path, prompt: str, tokens: int) -> str:
    """The greedy text by transformers' own `generate`, without half a character at its end."""
    model, tokenizer = plain(folder)
    ids = tokenizer(prompt, return_tensors="pt")
    written = model.generate(**ids, max_new_tokens=tokens, do_sample=False)[0, ids["input_ids"].shape[1] :]
    return str(tokenizer.decode(written, skip_special_tokens=True)).rstrip("\N{REPLACEMENT CHARACTER}")


def chances(folder: Path, context: list[int], target: list[int]) -> list[float]:
    """Log-probabilities of the target's tokens, by one pass over all the tokens."""
    model, _ = plain(folder)
    with torch.inference_mode():
        logits = model(torch.tensor([[*context, *target]])).logits[0, len(context) - 1 : -1]
    found: list[float] = logits.log_softmax(-1)[range(len(target)), target].tolist()
    return found


def whole(completion: Completion) -> str:
    """The text without half a character at its end."""
    return completion.text.rstrip("\N{REPLACEMENT CHARACTER}")


async def test_greedy_text_is_that_of_transformers(shape: Path) -> None:
    """One prompt at a time and all in one batch, of several lengths: the same text as `generate` writes."""
    lm = Transformers(str(shape), dtype="float32")
    expected = [generated(shape, prompt, 24) for prompt in PROMPTS]
    requests = [Request(prompt, max_tokens=24) for prompt in PROMPTS]
    alone = [(await lm.generate(request))[0] for request in requests]
    together = await asyncio.gather(*map(lm.generate, requests))
    assert [whole(completion) for completion in alone] == expected
    assert [whole(completion) for [completion] in together] == expected
    await lm.aclose()


async def test_scores_are_those_of_one_pass_each(shape: Path) -> None:
    """Many requests of several continuations at once agree to 1e-5 with a log-softmax for each by itself."""
    lm = Transformers(str(shape), dtype="float32")
    continuations = [" yes", " no, there are 17 sheep left", "7", " The answer is 12."]
    scores = await asyncio.gather(*(lm.score(prompt, continuations) for prompt in PROMPTS), lm.score(LONG, [" 17"]))
    tokenizer = plain(shape)[1]
    for prompt, found in zip([*PROMPTS, LONG], scores, strict=True):
        for continuation, one in zip(continuations if len(found) > 1 else [" 17"], found, strict=True):
            context, target = split(tokenizer, prompt, continuation)
            assert one.logprobs == pytest.approx(chances(shape, list(context.ids), target), abs=1e-5)
    await lm.aclose()


async def test_unpacked_scores_are_the_same(lm: Transformers, tiny_model: Path) -> None:
    """Where continuations cannot be packed each gets its own row, and the same score."""
    alone = Transformers(str(tiny_model), dtype="float32")
    alone.__dict__["_windows"] = None
    packed, unpacked = await lm.score(LONG, [" yes", " 17 sheep"]), await alone.score(LONG, [" yes", " 17 sheep"])
    for one, other in zip(packed, unpacked, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    await alone.aclose()


async def test_a_sample_is_that_of_its_own_seed(lm: Transformers) -> None:
    """Sample i of eight equals the one sample of seed + i: alone, and in batches with other prompts and settings."""
    request = Request(LONG, n=8, temperature=0.9, top_p=0.95, top_k=50, max_tokens=20, seed=100)
    samples = await lm.generate(request)
    singles = [replace(request, n=1, seed=100 + i) for i in range(8)]
    alone = [(await lm.generate(single))[0] for single in singles]
    others = [Request(prompt, n=3, temperature=0.5, max_tokens=30, seed=7) for prompt in PROMPTS]
    mixed = await asyncio.gather(*map(lm.generate, [*others, *singles, Request(LONG, max_tokens=5)]))
    assert len({sample.text for sample in samples}) == 8
    assert alone == samples
    assert [completions[0] for completions in mixed[len(others) : -1]] == samples


async def test_samples_of_one_row_end_each_at_its_own_time() -> None:
    """Of 30 chains of thought in two rows, some end after a few tokens and some late: each as if it were alone."""
    lm = Transformers(TINY)
    question, *demos = sums.split(0, 5, held_out=True)
    told = [(demo.shown, demo.answer or "") for demo in demos]
    prompt = load_template("math.cot.v1").render(question.fields, told)
    [length] = await lm.count([prompt])
    request = Request(prompt, n=30, temperature=1.2, max_tokens=4 * length // 20, seed=3, stop=("\n",))
    samples = await lm.generate(request)
    alone = await asyncio.gather(*(lm.generate(replace(request, n=1, seed=3 + i)) for i in range(30)))
    assert samples == [completion for [completion] in alone]
    assert len({completion.tokens for completion in samples}) > 5
    await lm.aclose()


def test_as_many_samples_share_a_row_as_their_prompt_carries() -> None:
    """Behind 50 tokens, with room for 40 more: five, which together grow to four times the prompt at the most."""
    ids = Encoded(tuple(range(50)))
    packed = Generation(Request("p", n=12, temperature=1.0), ids, room=40, packed=True)
    assert packed.lines(range(12)) == [range(5), range(5, 10), range(10, 12)]
    assert packed.size(range(12)) == Size(prompt=50, rows=3, new=5 * 40, outputs=5)
    assert packed.size(range(10, 12)) == Size(prompt=50, rows=1, new=2 * 40, outputs=2)
    alone = replace(packed, packed=False)
    assert alone.size(range(12)) == Size(prompt=50, rows=12, new=40, outputs=1)
    assert replace(packed, room=500).size(range(3)) == Size(prompt=50, rows=3, new=500, outputs=1)


async def test_a_prompt_is_prefilled_once(lm: Transformers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three requests of one prompt, of five samples each, run one row; then the samples grow, five side by side."""
    rows: list[tuple[int, ...]] = []
    await lm.generate(Request(LONG, max_tokens=1))
    forward = lm._model.forward

    def watched(**inputs: Any) -> Any:
        rows.append(tuple(inputs["input_ids"].shape))
        return forward(**inputs)

    monkeypatch.setattr(lm._model, "forward", watched)
    await asyncio.gather(*(lm.generate(Request(LONG, n=5, temperature=1.0, max_tokens=2, seed=i)) for i in (0, 9, 20)))
    [length] = await lm.count([LONG])
    assert rows == [(1, length), (3, 5)]


async def test_greedy_samples_are_computed_once(lm: Transformers) -> None:
    """Three greedy samples are three times the same."""
    once = await lm.generate(Request(LONG, max_tokens=8))
    assert await lm.generate(Request(LONG, n=3, max_tokens=8, seed=5)) == once * 3


async def test_rows_end_each_at_its_own_time(lm: Transformers) -> None:
    """Requests of 1 to 12 tokens in one batch are beginnings of the longest."""
    found = await asyncio.gather(*(lm.generate(Request(LONG, max_tokens=m)) for m in (5, 1, 12, 3)))
    texts = sorted((completion for [completion] in found), key=lambda completion: completion.tokens)
    assert [completion.tokens for completion in texts] == [1, 3, 5, 12]
    assert all(long.text.startswith(short.text) for short, long in pairwise(texts))
    assert {completion.finish for completion in texts} == {"length"}


async def test_generation_ends_before_a_stop_string(lm: Transformers) -> None:
    """A string that begins within the text of one token and ends in another's stops, and is cut off."""
    [free] = await lm.generate(Request(LONG, max_tokens=20))
    stop = free.text[4:8]
    [stopped] = await lm.generate(Request(LONG, max_tokens=20, stop=("never said", stop)))
    assert (stopped.text, stopped.finish) == (free.text[: free.text.index(stop)], "stop")
    assert stopped.tokens < free.tokens


async def test_generation_ends_at_any_end_token(tiny_model: Path, tmp_path: Path) -> None:
    """Of two end tokens in the generation settings the second comes fourth: it is counted, and is not text."""
    model, tokenizer = plain(tiny_model)
    ids = tokenizer(LONG, return_tensors="pt")
    written = model.generate(**ids, max_new_tokens=8, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    fourth = next(i for i in range(3, 8) if written[i] not in written[:i])
    folder = copytree(tiny_model, tmp_path / "two-ends")
    GenerationConfig(eos_token_id=[1, written[fourth]]).save_pretrained(folder)
    lm = Transformers(str(folder), dtype="float32")
    [completion] = await lm.generate(Request(LONG, max_tokens=8))
    assert (completion.finish, completion.tokens) == ("stop", fourth + 1)
    assert whole(completion) == tokenizer.decode(written[:fourth]).rstrip("\N{REPLACEMENT CHARACTER}")
    await lm.aclose()


async def test_the_log_probability_is_the_models_own(lm: Transformers, tiny_model: Path) -> None:
    """Temperature and filters leave it alone: five tokens may be drawn, with their chances before the filter."""
    model, tokenizer = plain(tiny_model)
    ids = tokenizer(LONG, return_tensors="pt")
    with torch.inference_mode():
        likely = model(**ids).logits[0, -1].log_softmax(-1).topk(5).values.tolist()
    request = Request(LONG, n=8, temperature=3.0, top_k=5, top_p=0.99, max_tokens=1, logprobs=True)
    for completion in await lm.generate(request):
        assert any(completion.logprob == pytest.approx(chance, abs=1e-5) for chance in likely)
    [greedy] = await lm.generate(Request(LONG, max_tokens=6, logprobs=True))
    written = model.generate(**ids, max_new_tokens=6, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    assert greedy.logprob == pytest.approx(sum(chances(tiny_model, ids["input_ids"][0].tolist(), written)), abs=1e-4)
    assert (await lm.generate(Request(LONG, max_tokens=6)))[0].logprob is None


async def test_a_prompt_without_room_is_refused_and_no_other(tiny_model: Path) -> None:
    """Of two requests the one that fills the context fails, with its length; the other is cut to what fits."""
    lm = Transformers(str(tiny_model), dtype="float32", max_model_len=40)
    [length] = await lm.count([LONG])
    results = await asyncio.gather(
        lm.generate(Request(LONG * 3)), lm.generate(Request("Q: 3 apples", max_tokens=500)), return_exceptions=True
    )
    refused, cut = results
    assert isinstance(refused, PromptTooLong)
    assert str(3 * length - 2) in str(refused)
    assert isinstance(cut, list)
    assert cut[0].prompt_tokens + cut[0].tokens == 40
    assert cut[0].finish == "length"
    with pytest.raises(PromptTooLong, match="room for 40"):
        await lm.score("Q:", [LONG * 3])
    await lm.aclose()


async def test_a_cancelled_request_stops_growing(lm: Transformers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,500 tokens some twenty are written when the request is cancelled, and few more after that."""
    steps, loop = 0, asyncio.get_running_loop()
    await lm.generate(Request(LONG, max_tokens=1))
    forward = lm._model.forward
    running = asyncio.create_task(lm.generate(Request(LONG, n=2, temperature=5.0, max_tokens=1500)))

    def watched(**inputs: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 20:
            loop.call_soon_threadsafe(running.cancel)
        return forward(**inputs)

    monkeypatch.setattr(lm._model, "forward", watched)
    with pytest.raises(asyncio.CancelledError):
        await running
    await lm.generate(Request(LONG, max_tokens=1))
    assert steps < 750


async def test_scores_of_nothing_are_nothing_and_of_an_empty_text_an_error(lm: Transformers) -> None:
    """No continuations, no scores; an empty one has none."""
    assert await lm.score(LONG, []) == []
    with pytest.raises(UserError, match="empty continuation"):
        await lm.score(LONG, [" yes", ""])


async def test_an_empty_prompt_without_special_tokens_is_refused(tiny_model: Path) -> None:
    """There is no token to continue, neither with a completion nor with a continuation to score."""
    lm = Transformers(str(tiny_model), dtype="float32")
    lm.__dict__["_tokenizer"] = AutoTokenizer.from_pretrained(tiny_model)
    lm.__dict__["_tokenizer"].backend_tokenizer.post_processor = ByteLevel()  # puts nothing before a text
    assert await lm.count([""]) == [0]
    for call in (lm.generate(Request("")), lm.score("", [" yes"])):
        with pytest.raises(UserError, match=r"prompt is empty.*begin with some text"):
            await call
    await lm.aclose()


async def test_an_error_of_torch_is_the_models_and_not_the_end(tiny_model: Path) -> None:
    """The batch's two requests fail with torch's error as the cause, and the next one is answered."""
    lm = Transformers(str(tiny_model), dtype="float32")
    broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm._model, "forward", Mock(side_effect=broken))
        errors = await asyncio.gather(lm.generate(Request("a")), lm.score("a", [" b"]), return_exceptions=True)
    for error in errors:
        assert isinstance(error, ModelError)
        assert error.__cause__ is broken
        assert "transformers/tiny@" in str(error)
        assert "illegal memory access" in str(error)
    assert len(await lm.generate(Request("a", max_tokens=1))) == 1
    await lm.aclose()


async def test_chats_run_as_their_template_lays_them_out(lm: Transformers) -> None:
    """A chat is the same as its layout without the begin-of-text that the tokenizer adds itself."""
    chat = (Turn("user", "How many?"), Turn("assistant", "There are"))
    [completion] = await lm.generate(Request(chat, max_tokens=8))
    [same] = await lm.generate(Request("<|user|>\nHow many?\n<|assistant|>\nThere are", max_tokens=8))
    assert completion == same


def test_each_run_may_have_its_own_event_loop(lm: Transformers) -> None:
    """Two calls of asyncio.run use one model."""
    first = asyncio.run(lm.generate(Request(LONG, max_tokens=4)))
    assert asyncio.run(lm.generate(Request(LONG, max_tokens=4))) == first


async def test_the_model_is_loaded_when_it_is_asked(tiny_model: Path) -> None:
    """Name, count and context need no weights; the first request loads them, and closing lets go of them."""
    lm = Transformers(str(tiny_model), dtype="float32")
    assert lm.name.startswith("transformers/tiny@")
    assert await lm.context() == 2048
    assert await lm.count(["", (Turn("user", "Hi"),)]) == [1, len("Hi") + 21]
    assert "_model" not in vars(lm)
    await lm.generate(Request(LONG, max_tokens=1))
    assert "_model" in vars(lm)
    await lm.aclose()
    assert "_model" not in vars(lm)
    with pytest.raises(ModelError, match="closed"):
        await lm.generate(Request(LONG, max_tokens=1))


def test_importing_loads_no_torch() -> None:
    """The backend can be named, made and counted among the others without torch and transformers."""
    code = (
        "import sys; from icl.backends.transformers import Transformers; Transformers('x'); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_can_do_what_it_says(lm: Transformers) -> None:
    """It scores, counts and closes."""
    assert isinstance(lm, ScoringLM)
    assert isinstance(lm, Counting)
    assert isinstance(lm, Closing)


def test_the_name_tells_dtypes_revisions_and_lengths_apart(tiny_model: Path) -> None:
    """What changes the words changes the name, and with it every cache key."""
    options: list[dict[str, Any]] = [{}, {"revision": "v2"}, {"dtype": "float16"}, {"max_model_len": 40}]
    assert [Transformers("org/m", **more).name for more in options] == [
        "transformers/org/m@main dtype=auto",
        "transformers/org/m@v2 dtype=auto",
        "transformers/org/m@main dtype=float16",
        "transformers/org/m@main dtype=auto max_model_len=40",
    ]
    assert Transformers(str(tiny_model)).name.endswith("dtype=auto")


async def test_16_bits_run(tiny_model: Path) -> None:
    """In bfloat16 the model writes, and scores to about two digits what it scores in 32 bits."""
    half, full = (Transformers(str(tiny_model), dtype=dtype) for dtype in ("bfloat16", "float32"))
    [[one], [other]] = [await lm.score(LONG, [" 17 sheep"]) for lm in (half, full)]
    assert one.logprobs == pytest.approx(other.logprobs, abs=0.5)
    assert (await half.generate(Request(LONG, n=2, temperature=1.0, max_tokens=3)))[1].tokens == 3
    await asyncio.gather(half.aclose(), full.aclose())


async def test_a_folder_without_a_model_is_the_users_error(tiny_model: Path, tmp_path: Path) -> None:
    """Both requests learn what is missing: here the weights."""
    folder = copytree(tiny_model, tmp_path / "no-weights")
    (folder / "model.safetensors").unlink()
    lm = Transformers(str(folder))
    errors = await asyncio.gather(lm.generate(Request("a")), lm.score("a", [" b"]), return_exceptions=True)
    assert [type(error) for error in errors] == [UserError, UserError]
    assert "the model of" in str(errors[0])
    await lm.aclose()


async def test_a_model_that_cannot_be_padded_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Bloom finds positions by itself, so padding would shift them."""
    folder = copytree(tiny_model, tmp_path / "bloom")
    config = AutoConfig.for_model("bloom", vocab_size=600, hidden_size=32, n_layer=1, n_head=2, eos_token_id=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    lm = Transformers(str(folder), max_model_len=100)
    with pytest.raises(Unsupported, match=r"bloom.*no position numbers.*VLLM"):
        await lm.generate(Request("Q: 3 apples", max_tokens=2))
    await lm.aclose()


def test_limits_in_which_nothing_fits_are_refused() -> None:
    """The error says what was given."""
    with pytest.raises(UserError, match=r"max_batch_tokens ≥ 1.*got 0, 4.0 and None"):
        Transformers("x", max_batch_tokens=0)


def test_the_cache_is_measured_by_the_models_own_shape(tiny_model: Path) -> None:
    """Two layers of one key-value head of 32 numbers in float32: 2 · 2 · 32 · 4 = 512 bytes a token."""
    lm = Transformers(str(tiny_model), dtype="float32", kv_cache_gib=1.0)
    assert json.loads((tiny_model / "config.json").read_text())["num_key_value_heads"] == 1
    assert lm._limits().cache == 2**30 // 512
