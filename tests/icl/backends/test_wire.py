from typing import Any

import pytest

from icl.backends.wire import from_wire, prompt_logprobs, to_wire
from icl.lm import Completion, Request
from templates.errors import BadReply, Unsupported
from templates.prompt import Turn

CHAT = (Turn("system", "Be brief."), Turn("user", "9 * 2?"))

# What `vllm serve` answered to n=2 at temperature 0.7, without its fields that are null.
VLLM_TEXT = {
    "id": "cmpl-a6466e1c58416369",
    "object": "text_completion",
    "created": 1795226409,
    "model": "tiny",
    "choices": [
        {"index": 1, "text": "@,", "finish_reason": "stop", "logprobs": None, "token_ids": None},
        {"index": 0, "text": "icy\n", "finish_reason": "length", "logprobs": None, "token_ids": None},
    ],
    "usage": {
        "prompt_tokens": 11,
        "total_tokens": 20,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 8, "created_cache_tokens": None},
    },
}
VLLM_CHAT = {
    "id": "chatcmpl-a3edf3d3566c86e4",
    "object": "chat.completion",
    "created": 1795226429,
    "model": "tiny",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "18", "refusal": None, "reasoning": None},
            "logprobs": {"content": [{"token": "1", "logprob": -0.5}, {"token": "8", "logprob": -0.25}]},
            "finish_reason": "stop",
        },
        {
            "index": 1,
            "message": {"role": "assistant", "content": "20.", "refusal": None, "reasoning": None},
            "logprobs": {"content": [{"logprob": -1.0}, {"logprob": -1.0}, {"logprob": -2.0}]},
            "finish_reason": "length",
        },
    ],
    "usage": {"prompt_tokens": 23, "total_tokens": 28, "completion_tokens": 5, "prompt_tokens_details": None},
}


def test_text_on_the_wire() -> None:
    """The golden body of a sampled text request: every field that was set, and no other."""
    request = Request(
        "Q: 9 * 2?\nA:",
        n=40,
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        max_tokens=99,
        stop=("\n\n",),
        seed=7,
        logprobs=True,
    )
    assert to_wire("m", request) == {
        "model": "m",
        "prompt": "Q: 9 * 2?\nA:",
        "n": 40,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 99,
        "seed": 7,
        "top_k": 40,
        "stop": ["\n\n"],
        "logprobs": 1,
    }


def test_chat_on_the_wire() -> None:
    """The golden body of a greedy chat request: messages, one sample whatever n is, no top_k where it is off."""
    assert to_wire("m", Request(CHAT, n=5, logprobs=True)) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "9 * 2?"}],
        "n": 1,
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 256,
        "seed": 0,
        "logprobs": True,
    }


def test_vllm_gets_what_only_it_understands() -> None:
    """Sampling that was not asked for is switched off, and a chat's unfinished last turn is continued."""
    body = to_wire("m", Request((*CHAT, Turn("assistant", "It is"))), vllm=True)
    said = {name: body[name] for name in body.keys() - {"model", "messages", "n", "temperature", "top_p", "seed"}}
    assert said == {
        "max_tokens": 256,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    assert "continue_final_message" not in to_wire("m", Request(CHAT), vllm=True)


def test_a_set_top_k_is_kept_on_vllm() -> None:
    """top_k=40 is 40, not off."""
    assert to_wire("m", Request("a", top_k=40), vllm=True)["top_k"] == 40


def test_text_as_a_turn() -> None:
    """With chat=True a text is one user turn; with chat=False a chat is refused."""
    assert to_wire("m", Request("9 * 2?"), chat=True)["messages"] == [{"role": "user", "content": "9 * 2?"}]
    with pytest.raises(Unsupported, match="the prompt is a chat, but chat=False"):
        to_wire("m", Request(CHAT), chat=False)


def test_extra_fields_have_the_last_word() -> None:
    """A field in `extra` replaces ours, None leaves one out, and the limit goes by the server's name."""
    body = to_wire("m", Request("a"), limit="max_completion_tokens", extra={"seed": None, "top_p": 0.5, "user": "me"})
    assert (body["top_p"], body["user"], body["max_completion_tokens"]) == (0.5, "me", 256)
    assert not {"seed", "max_tokens"} & body.keys()


class _Soft:
    vectors = None
    digest = "d" * 32


def test_soft_prompts_do_not_travel() -> None:
    """A server takes text: soft prompts are refused before anything is sent."""
    with pytest.raises(Unsupported, match="1 soft prompts; use VLLM"):
        to_wire("m", Request((_Soft(), " is 18?")))


def test_texts_in_sample_order() -> None:
    """Choices are ordered by index; nine tokens of two samples are five and four."""
    assert from_wire(VLLM_TEXT, Request("a", n=2, temperature=0.7)) == [
        Completion("icy\n", "length", prompt_tokens=11, cached_tokens=8, tokens=5),
        Completion("@,", "stop", prompt_tokens=11, cached_tokens=8, tokens=4),
    ]


def test_tokens_by_log_probabilities() -> None:
    """Two and three log-probabilities are two and three tokens; their sums are the samples' log-probabilities."""
    assert from_wire(VLLM_CHAT, Request("a", n=2, temperature=0.7, logprobs=True)) == [
        Completion("18", "stop", prompt_tokens=23, tokens=2, logprob=-0.75),
        Completion("20.", "length", prompt_tokens=23, tokens=3, logprob=-4.0),
    ]


def test_tokens_by_token_ids() -> None:
    """Where the reply has token ids (vLLM's `return_token_ids`), each sample has its own count."""
    choices = [{"text": "a", "token_ids": [5]}, {"text": "b", "token_ids": [5, 6, 7]}]
    reply = {"choices": choices, "usage": {"prompt_tokens": 2, "completion_tokens": 4}}
    assert [c.tokens for c in from_wire(reply, Request("a", n=2, temperature=1.0))] == [1, 3]


@pytest.mark.parametrize(("total", "each"), [(7, [3, 2, 2]), (8, [3, 3, 2]), (9, [3, 3, 3]), (1, [1, 0, 0])])
def test_tokens_split_evenly(total: int, each: list[int]) -> None:
    """A total that says nothing about the samples is split evenly, the remainder on the first; the sum is exact."""
    reply = {"choices": [{"text": "a"}] * 3, "usage": {"prompt_tokens": 2, "completion_tokens": total}}
    assert [c.tokens for c in from_wire(reply, Request("a", n=3, temperature=1.0))] == each


def test_greedy_samples_are_one_repeated() -> None:
    """Three greedy samples are the one that was asked for, three times."""
    reply = {"choices": [{"text": "18"}]}
    assert [c.text for c in from_wire(reply, Request("a", n=3))] == ["18", "18", "18"]


def test_silence_is_an_empty_text() -> None:
    """A message whose content is null (all tokens went into thinking) is an empty text, cut off."""
    reply = {"choices": [{"index": 0, "message": {"content": None}, "finish_reason": "length"}]}
    assert from_wire(reply, Request("a")) == [Completion("", "length")]


@pytest.mark.parametrize(
    ("reply", "missing"),
    [
        ({"error": {"message": "overloaded"}}, r"choices: Field required.*overloaded"),
        ([], r"the whole"),
        ({"choices": [{"index": 0}]}, r"choices.0 has neither text nor message"),
        ({"choices": [{"message": {"role": "assistant"}}]}, r"choices.0.message.content: Field required"),
        ({"choices": [{"text": 5}]}, r"choices.0.text: Input should be a valid string"),
        ({"choices": []}, r"asked for 1 samples, the reply has 0 choices"),
        ({"choices": [{"text": "a"}, {"text": "b"}]}, r"asked for 1 samples, the reply has 2 choices"),
        ({"choices": [{"text": "a"}], "usage": {"prompt_tokens": "many"}}, r"usage.prompt_tokens"),
    ],
)
def test_a_bad_reply_says_what_is_missing(reply: Any, missing: str) -> None:
    """What is no completion is refused by the name of what it lacks."""
    with pytest.raises(BadReply, match=missing):
        from_wire(reply, Request("a"))


def test_missing_log_probabilities() -> None:
    """A sample without the log-probability that was asked for is no sample."""
    with pytest.raises(BadReply, match=r"choices.0.logprobs is missing"):
        from_wire({"choices": [{"text": "a", "logprobs": None}]}, Request("a", logprobs=True))


def test_one_sample_for_many() -> None:
    """A server that gives one sample a call is told apart from a broken one."""
    with pytest.raises(BadReply, match=r'asked for 5 samples, the reply has 1 choices; .*set samples="one each"'):
        from_wire({"choices": [{"text": "a"}]}, Request("a", n=5, temperature=1.0))


def test_a_quotation_is_short() -> None:
    """Of a long reply at most 200 characters are quoted."""
    with pytest.raises(BadReply) as caught:
        from_wire({"answer": "x" * 5000}, Request("a"))
    assert "x" * 100 in str(caught.value)
    assert len(str(caught.value)) < 300


def test_log_probabilities_of_prompts() -> None:
    """Each prompt's tokens but the first have a log-probability, found under the token's own id."""
    first = [None, {"60": {"logprob": -1.5, "rank": 354}}, {"61": {"logprob": -2.5}, "7": {"logprob": -0.1}}]
    second = [None, {"60": {"logprob": -1.5}}]
    reply = {"choices": [{"index": 1, "prompt_logprobs": second}, {"index": 0, "prompt_logprobs": first}]}
    assert prompt_logprobs(reply, [[0, 60, 61], [0, 60]]) == [[-1.5, -2.5], [-1.5]]


@pytest.mark.parametrize("row", [None, [None], [None, None], [None, {"8": {"logprob": -1.0}}]])
def test_log_probabilities_that_are_not_there(row: Any) -> None:
    """Too few log-probabilities, or those of other tokens, are refused."""
    with pytest.raises(BadReply, match="prompt_logprobs"):
        prompt_logprobs({"choices": [{"index": 0, "prompt_logprobs": row}]}, [[0, 7]])
