import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from icl.backends import OpenAI
from icl.lm import Request
from templates.errors import PromptTooLong, UserError
from templates.prompt import Turn

pytest.importorskip("vllm")
pytestmark = pytest.mark.engine

PROMPT = "Q: There are 3 cars and 2 more come. How many?\nA:"
CHAT = (Turn("system", "Count."), Turn("user", "3 cars and 2 more?"))


@pytest.fixture
def lm(url: str) -> OpenAI:
    """The backend, on that server."""
    return OpenAI("tiny", base_url=url)


async def test_greedy_text_is_stable(lm: OpenAI) -> None:
    """Asked twice, alone and among others, the greedy text is the same; its tokens are counted."""
    request = Request(PROMPT, max_tokens=16)
    [alone] = await lm.generate(request)
    among = await asyncio.gather(*(lm.generate(replace(request, prompt=p)) for p in (PROMPT, "Q: Why?\nA:", PROMPT)))
    assert [among[0][0].text, among[2][0].text] == [alone.text] * 2
    assert (alone.tokens, alone.finish) == (16, "length")
    assert alone.prompt_tokens == (await lm.count([PROMPT]))[0]


async def test_a_sample_is_named_by_its_seed(lm: OpenAI) -> None:
    """Sample i of four is the only sample of a request at seed + i; the four differ."""
    request = Request(PROMPT, n=4, temperature=0.9, top_k=40, max_tokens=12, seed=11)
    together = await lm.generate(request)
    alone = [(await lm.generate(replace(request, n=1, seed=11 + i)))[0] for i in range(4)]
    assert [sample.text for sample in together] == [sample.text for sample in alone]
    assert len({sample.text for sample in together}) == 4
    assert sum(sample.tokens for sample in together) == sum(sample.tokens for sample in alone)


async def test_a_stop_string_ends_the_text(lm: OpenAI) -> None:
    """A stop string found in the free text cuts it there, and is not part of it."""
    [free] = await lm.generate(Request(PROMPT, max_tokens=16))
    stop = next(char for char in free.text[4:] if char.isascii())
    [cut] = await lm.generate(Request(PROMPT, max_tokens=16, stop=(stop,)))
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.finish == "stop"


async def test_a_chat_is_laid_out_by_the_model(lm: OpenAI) -> None:
    """Turns give the text of the template's own layout, and a chat that ends in an assistant's turn is continued."""
    laid_out = "<|system|>\nCount.\n<|user|>\n3 cars and 2 more?\n<|assistant|>\n"
    [chat], [text] = await asyncio.gather(
        lm.generate(Request(CHAT, max_tokens=8)), lm.generate(Request(laid_out, max_tokens=8))
    )
    assert (chat.text, chat.prompt_tokens) == (text.text, text.prompt_tokens)
    [begun], [text] = await asyncio.gather(
        lm.generate(Request((*CHAT, Turn("assistant", "That is")), max_tokens=8)),
        lm.generate(Request(laid_out + "That is", max_tokens=8)),
    )
    assert (begun.text, begun.prompt_tokens) == (text.text, text.prompt_tokens)
    assert await lm.count([CHAT, laid_out]) == [chat.prompt_tokens] * 2


async def test_a_repeated_prompt_is_cached(lm: OpenAI) -> None:
    """The second time a long prompt comes, most of it is in the prefix cache, and the completion says so."""
    request = Request(PROMPT * 12, max_tokens=1)
    await lm.generate(request)
    [again] = await lm.generate(request)
    assert again.prompt_tokens / 2 < again.cached_tokens < again.prompt_tokens


async def test_scores_are_those_of_the_model(lm: OpenAI, tiny_model: Path) -> None:
    """Continuations of different lengths have the log-probabilities that transformers computes, after text and chat."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    laid_out = "<|system|>\nCount.\n<|user|>\n3 cars and 2 more?\n<|assistant|>\n"
    said = [" 5", " There are 5 cars."]
    for prompt, text in ((PROMPT, PROMPT), (CHAT, laid_out)):
        for continuation, score in zip(said, await lm.score(prompt, said), strict=True):
            start, ids = len(tokenizer.encode(text)), tokenizer.encode(text + continuation)
            with torch.no_grad():
                logprobs = network(torch.tensor([ids])).logits[0].log_softmax(-1)
            expected = [float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids))]
            assert list(score.logprobs) == pytest.approx(expected, abs=1e-4)


async def test_a_prompt_that_does_not_fit(lm: OpenAI) -> None:
    """A prompt of more than the context's 2048 tokens is told apart from other refusals."""
    assert await lm.context() == 2048
    with pytest.raises(PromptTooLong, match="maximum context length is 2048 tokens"):
        await lm.generate(Request(PROMPT * 200))


async def test_a_model_that_is_not_served(url: str) -> None:
    """A wrong name is answered with the right one."""
    with pytest.raises(UserError, match=r"no model 'tinny' at 127\.0\.0\.1:\d+; it has tiny"):
        await OpenAI("tinny", base_url=url).generate(Request(PROMPT))


def test_one_backend_in_many_loops(lm: OpenAI) -> None:
    """The real server's connections, too, end with the event loop that made them."""
    texts = [asyncio.run(lm.generate(Request(PROMPT, max_tokens=4)))[0].text for _ in range(2)]
    assert texts[0] == texts[1]
    assert lm._server._lines == {}
