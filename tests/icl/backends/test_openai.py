import asyncio
import gc
import json
import socket
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest

from icl.backends import OpenAI, Retrying
from icl.backends.server import retry_after
from icl.lm import Counting, Request, ScoringLM
from templates.errors import BadReply, ICLError, ModelError, PromptTooLong, Refused, Transient, Unsupported, UserError
from templates.prompt import Turn
from tests.fake_server import Fake, completion, models, on_a_socket, say

CHAT = (Turn("user", "9 * 2?"),)


def refusing(status: int, body: Any, **headers: str) -> Fake:
    """A server that answers every prompt with this."""
    content = body if isinstance(body, str) else json.dumps(body)
    return Fake(
        lambda *_: httpx.Response(status, text=content, headers={k.replace("_", "-"): headers[k] for k in headers})
    )


async def failure(fake: Fake, **options: Any) -> ICLError:
    """How a plain request to the server fails."""
    with pytest.raises(ICLError) as caught:
        await fake.lm(**options).generate(Request("9 * 2?"))
    return caught.value


async def test_n_samples_are_one_call() -> None:
    """Forty samples of a text are one POST to /completions, and come back in order."""
    fake = Fake(lambda _, body: completion(*map(str, range(body["n"]))))
    samples = await fake.lm().generate(Request("9 * 2?", n=40, temperature=0.7))
    assert [sample.text for sample in samples] == [str(i) for i in range(40)]
    assert [(path, body["n"]) for path, body in fake.asked] == [("/v1/completions", 40)]


async def test_a_chat_goes_to_its_own_address() -> None:
    """Turns are messages for /chat/completions, and so is a text where chat=True."""
    fake = Fake(lambda *_: {"choices": [{"message": {"content": "18"}}]})
    for lm, prompt in ((fake.lm(), CHAT), (fake.lm(chat=True), "9 * 2?")):
        [sample] = await lm.generate(Request(prompt))
        assert sample.text == "18"
    assert [path for path, _ in fake.asked] == ["/v1/chat/completions"] * 2
    assert fake.asked[0] == fake.asked[1]


async def test_one_each() -> None:
    """Where only single samples can be trusted, three samples are three calls at seeds 5, 6, 7, in sample order."""
    fake = Fake(lambda _, body: completion(f"seed {body['seed']}"))
    samples = await fake.lm(samples="one each").generate(Request("a", n=3, temperature=0.7, seed=5))
    assert [sample.text for sample in samples] == ["seed 5", "seed 6", "seed 7"]
    assert [body["n"] for _, body in fake.asked] == [1, 1, 1]


async def test_greedy_samples_cost_one_call() -> None:
    """Greedy samples are equal, so one is asked for, in either way of asking."""
    fake = Fake()
    for samples in ("one call", "one each"):
        assert len(await fake.lm(samples=samples).generate(Request("a", n=3))) == 3
    assert [body["n"] for _, body in fake.asked] == [1, 1]


async def test_vllm_is_recognised_once() -> None:
    """A hundred requests at once ask /models a single time; its owner says that the server is vLLM's."""
    fake = Fake(models=models("m", owner="vllm"))
    lm = fake.lm()
    await asyncio.gather(*(lm.generate(Request("a", seed=seed)) for seed in range(100)))
    assert [path for path, _ in fake.calls].count("/v1/models") == 1
    assert all(body["repetition_penalty"] == 1.0 for _, body in fake.asked)


async def test_a_dead_server_is_asked_once_by_all_who_wait() -> None:
    """Forty requests at once share one knock and its error; who comes later knocks again."""
    knocks = 0

    async def dead(_: httpx.Request) -> httpx.Response:
        nonlocal knocks
        knocks += 1
        await asyncio.sleep(0)
        raise httpx.ConnectError("All connection attempts failed")

    lm = Fake().lm(transport=httpx.MockTransport(dead))
    retried = Retrying(lm, attempts=1)
    found = await asyncio.gather(*(retried.generate(Request("a", seed=i)) for i in range(40)), return_exceptions=True)
    assert knocks == 1
    for error in found:
        assert isinstance(error, Transient)
        assert str(error).endswith("is the server running?; gave up after 1 attempts")
    with pytest.raises(Transient):
        await lm.generate(Request("a"))
    assert knocks == 2


async def test_who_gives_up_waiting_leaves_the_others_in_peace() -> None:
    """The first of three requests, which made the call to /models, is cancelled: the others get the call's answer."""
    listing, asked = asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/models"):
            return httpx.Response(200, json=completion("18"))
        assert not asked.is_set()
        asked.set()
        await listing.wait()
        return httpx.Response(200, json=models("m"))

    lm = Fake().lm(transport=httpx.MockTransport(slow))
    first, *others = [asyncio.create_task(lm.generate(Request("a"))) for _ in range(3)]
    await asked.wait()
    first.cancel()
    await asyncio.sleep(0)
    listing.set()
    assert [sample.text for [sample] in await asyncio.gather(*others)] == ["18", "18"]
    assert first.cancelled()


@pytest.mark.parametrize("listing", [[], {"data": 5}, httpx.Response(404), httpx.Response(501, text="<html>")])
async def test_a_server_without_a_list_of_models(listing: Any) -> None:
    """A server that does not list its models still completes, without vLLM's extras."""
    fake = Fake(models=listing)
    await fake.lm().generate(Request("a"))
    assert "top_k" not in fake.asked[0][1]


async def test_told_what_the_server_is_nobody_asks() -> None:
    """With vllm=True or vllm=False /models is not asked."""
    fake = Fake()
    for vllm in (True, False):
        await fake.lm(vllm=vllm).generate(Request("a"))
    assert fake.calls == fake.asked
    assert [("top_k" in body) for _, body in fake.asked] == [True, False]


async def test_names_differ_where_answers_may() -> None:
    """The name holds address, model, and the options that change the answers; never a key or a password."""
    fake = Fake()
    assert fake.lm().name == "openai/test.example/m"
    assert fake.lm(base_url="http://me:secret@localhost:8000/v1").name == "openai/localhost:8000/m"
    paths = ("v1", "v1/", "a/v1", "b/v1/", "api")
    assert [fake.lm(base_url=f"http://h/{path}").name for path in paths] == [
        "openai/h/m",
        "openai/h/m",
        "openai/h/a/v1/m",
        "openai/h/b/v1/m",
        "openai/h/api/m",
    ]
    named = fake.lm(chat=True, samples="one each", extra={"min_p": 0.1}, api_key="sk-secret").name
    assert named == "openai/test.example/m?chat=true&samples=%22one+each%22&min_p=0.1"


async def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """api_key goes before OPENAI_API_KEY, which goes before none; no repr and no error shows it."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fake = refusing(400, {"error": {"message": "bad my-own-key"}})
    await failure(fake)
    assert "authorization" not in fake.headers[-1]
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-env\n")
    await failure(fake)
    assert fake.headers[-1]["authorization"] == "Bearer key-of-env"
    error = await failure(fake, api_key="my-own-key")
    assert fake.headers[-1]["authorization"] == "Bearer my-own-key"
    assert str(error).endswith("(400): bad ***")
    lm = fake.lm(api_key="my-own-key")
    assert "my-own-key" not in repr(lm) + repr(lm._server)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_named_by_its_variable(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which key was refused is said by the name of its source; where none was sent, that is said."""
    fake = refusing(status, {"error": {"message": "Incorrect API key provided: sk-e*v"}})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    for options, said in (
        ({}, "check the key in OPENAI_API_KEY"),
        ({"api_key": "sk-mine"}, "check the key in api_key"),
    ):
        error = await failure(fake, **options)
        assert isinstance(error, UserError)
        assert said in str(error)
        assert "Incorrect API key provided: ***" in str(error)
        assert "sk-" not in str(error)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "no key was sent: set OPENAI_API_KEY" in str(await failure(fake))


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503])
async def test_a_busy_server_is_worth_another_try(status: int) -> None:
    """Such an answer is transient, with the wait that the server asks for."""
    error = await failure(refusing(status, {"error": {"message": "slow down"}}, Retry_After="7"))
    assert isinstance(error, Transient)
    assert error.after == 7.0
    assert f"answered {status}: slow down" in str(error)


async def test_an_empty_purse_is_not() -> None:
    """A quota that is used up is a 429 too, but no retry fills it, nor has the next question any."""
    for status in (400, 429):
        error = await failure(refusing(status, {"error": {"message": "Pay first.", "code": "insufficient_quota"}}))
        assert isinstance(error, UserError)


def test_retry_after_in_both_forms() -> None:
    """Seconds, a date (a past one means now), or nothing that can be understood."""
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert 50 < (retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}) or 0) <= 60
    assert [retry_after({"retry-after": said}) for said in ("soon", "-1", "nan")] == [None] * 3
    assert retry_after({}) is None


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens.",
        "The input exceeds the context window.",
        "context_length_exceeded",
    ],
)
async def test_a_prompt_that_is_too_long(message: str) -> None:
    """However a server words it, a prompt beyond the context is an error of its own."""
    error = await failure(refusing(400, {"error": {"message": message}}))
    assert isinstance(error, PromptTooLong)
    assert message in str(error)


@pytest.mark.parametrize(
    "body", [{"error": {"message": "no such option"}}, {"detail": "no such option"}, "no such option"]
)
async def test_a_refused_request(body: Any) -> None:
    """It concerns this question alone; what the server says is passed on, however it is wrapped."""
    error = await failure(refusing(422, body))
    assert isinstance(error, Refused)
    assert str(error) == "http://test.example/v1/completions refused the request (422): no such option"


async def test_a_content_filter_fails_one_question() -> None:
    """Of three requests at once the server refuses one: it fails on the model's side, the others are answered."""

    def answer(_: str, body: Any) -> Any:
        if body["prompt"] == "b":
            return httpx.Response(400, json={"error": {"message": "flagged", "code": "content_filter"}})
        return completion("18")

    lm = Fake(answer).lm()
    found = await asyncio.gather(*(lm.generate(Request(text)) for text in "abc"), return_exceptions=True)
    assert [type(one) for one in found] == [list, Refused, list]
    assert isinstance(found[1], ModelError)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, Refused), (413, Refused), (422, Refused), (402, UserError), (405, UserError)]
)
async def test_refusals_of_one_request_and_of_all(status: int, kind: type[ICLError]) -> None:
    """What is wrong with the request's content may be right in the next; a wrong way of asking stays wrong."""
    assert type(await failure(refusing(status, "no"))) is kind


async def test_an_unknown_model_lists_the_known() -> None:
    """A wrong name is answered with the server's names, the nearest first, five at the most."""
    fake = refusing(404, {"error": {"message": "The model `qwen3-8` does not exist."}})
    fake.models = models("llama-3", "qwen3-8b", "phi", "a", "b", "c", "d")
    error = await failure(fake, model="qwen3-8")
    assert isinstance(error, UserError)
    assert str(error).startswith("no model 'qwen3-8' at test.example; it has qwen3-8b, ")
    assert str(error).endswith(" and 2 more")


async def test_a_wrong_address() -> None:
    """Where there are neither completions nor models, it is base_url that is wrong."""
    fake = refusing(404, {"detail": "Not Found"})
    fake.models = httpx.Response(404)
    assert "base_url goes up to and with /v1" in str(await failure(fake))


async def test_a_model_that_only_chats() -> None:
    """A model that is there, but not under /completions, only chats."""
    error = await failure(refusing(404, {"error": {"message": "This is a chat model."}}))
    assert str(error).endswith("refused 'm': This is a chat model.; if it only chats, set chat=True")


async def test_a_moved_server() -> None:
    """A redirection is not followed, as a POST would become a GET; the user is told where to."""
    error = await failure(refusing(301, "", location="https://test.example/v1/completions"))
    assert "has moved to https://test.example/v1/completions; give that as base_url" in str(error)


@pytest.mark.parametrize("body", ["<html>It works!</html>", "", "{"])
async def test_no_json(body: str) -> None:
    """A page instead of JSON is a bad reply, quoted."""
    error = await failure(refusing(200, body))
    assert isinstance(error, BadReply)
    assert "answered no JSON (text/plain" in str(error)
    assert body in str(error)


async def test_never_more_than_the_limit() -> None:
    """Twenty requests at concurrency 3 are never more than three at once, and three they are."""
    now, most = 0, 0

    async def slow(_: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return httpx.Response(200, json=completion("18"))

    lm = Fake().lm(concurrency=3, vllm=False, transport=httpx.MockTransport(slow))
    await asyncio.gather(*(lm.generate(Request("a")) for _ in range(20)))
    assert most == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "localhost:8000"}, "base_url must be like http://localhost:8000/v1"),
        ({"base_url": "http://"}, "base_url must be like"),
        ({"base_url": "http://a:b/v1"}, "base_url must be like"),
        ({"concurrency": 0}, "concurrency ≥ 1"),
        ({"timeout": 0}, "timeout > 0"),
        ({"samples": "two"}, 'samples must be "one call" or "one each"'),
        ({"api_key": "sk-\N{EM DASH}"}, "the key in api_key has characters"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    """What no server can do is refused before any is asked."""
    with pytest.raises(UserError, match=said):
        Fake().lm(**options)


async def test_only_vllm_counts_and_scores() -> None:
    """The methods are there, and on another server say that it cannot."""
    lm = Fake().lm()
    assert isinstance(lm, Counting)
    assert isinstance(lm, ScoringLM)
    for call, said in (
        (lm.count(["a"]), "count tokens"),
        (lm.context(), "context length"),
        (lm.score("a", ["b"]), "score"),
    ):
        with pytest.raises(Unsupported, match=said):
            await call


def vllm(path: str, body: Any) -> Any:
    """A vLLM server whose tokens are characters, except that "ab" is one token; token t has log-probability -t / 10."""
    if path == "/tokenize":
        text = body["prompt"] if "prompt" in body else "<" + body["messages"][0]["content"] + ">"
        return {"tokens": [ord(char) for char in text.replace("ab", "\x01")], "max_model_len": 64}
    rows = [[None, *({str(t): {"logprob": -t / 10}} for t in ids[1:])] for ids in body["prompt"]]
    return {"choices": [{"index": i, "prompt_logprobs": row} for i, row in enumerate(rows)]}


async def test_counting_on_vllm() -> None:
    """Prompts are counted by the server's own tokenizer, beside /v1; the context is what it lists."""
    fake = Fake(vllm, models=models("other", "m", owner="vllm", max_model_len=64))
    assert await fake.lm().count(["cab", CHAT]) == [2, 8]
    assert await fake.lm().context() == 64
    assert {path for path, _ in fake.asked} == {"/tokenize"}


async def test_vllm_behind_a_gateway() -> None:
    """A gateway that does not pass /tokenize on makes a server that does not count, not a failure."""
    fake = Fake(lambda *_: httpx.Response(404), models=models("m", owner="vllm"))
    with pytest.raises(Unsupported, match=r"nothing at http://test.example/tokenize .* neither counts nor scores"):
        await fake.lm().count(["a"])


@pytest.mark.parametrize(
    ("prompt", "scores"),
    [
        ("xy", [(-9.7,), (-9.8, -9.9)]),  # a is token 97
        ("xa", [(-9.7,), (-9.8, -9.9)]),  # "ab" would be one token, across the seam: so "b" stands alone
        (CHAT, [(-9.7,), (-9.8, -9.9)]),
    ],
)
async def test_scoring_on_vllm(prompt: Any, scores: list[tuple[float, ...]]) -> None:
    """The continuations "a" and "bc" after a text, where tokens would merge, and after a chat: one call, by hand."""
    fake = Fake(vllm, models=models("m", owner="vllm"))
    assert [score.logprobs for score in await fake.lm().score(prompt, ["a", "bc"])] == scores
    assert [path for path, _ in fake.asked].count("/v1/completions") == 1


async def test_scoring_after_nothing() -> None:
    """An empty prompt has no tokens on this server, so that nothing predicts the first of "abc": refused."""
    lm = Fake(vllm, models=models("m", owner="vllm")).lm()
    with pytest.raises(UserError, match=r"prompt is empty and the tokenizer of 'm'.*begin with some text"):
        await lm.score("", ["abc"])


async def test_nothing_to_score() -> None:
    """No continuations are no scores; an empty continuation is refused."""
    lm = Fake(vllm, models=models("m", owner="vllm")).lm()
    assert await lm.score("a", []) == []
    with pytest.raises(UserError, match="empty continuation"):
        await lm.score("a", [""])


async def test_nobody_there() -> None:
    """A refused connection is transient, and asks whether the server is running."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(Transient, match=rf"cannot connect to {url}/models .*is the server running\?"):
        await OpenAI("m", base_url=url).generate(Request("a"))


async def test_a_slow_server() -> None:
    """No answer in time is transient, and says how long was waited."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.5)
        say(handler, completion("18"))

    with on_a_socket(answer) as url, pytest.raises(Transient, match=r"did not answer within 0\.05 s"):
        await OpenAI("m", base_url=url, vllm=False, timeout=0.05).generate(Request("a"))


@pytest.mark.parametrize(
    "said", [b"", b"220 mail.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"]
)
async def test_a_broken_connection(said: bytes) -> None:
    """A connection that ends early, or does not speak HTTP, is transient."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(said)
        handler.close_connection = True

    with on_a_socket(answer) as url, pytest.raises(Transient, match="broke"):
        await OpenAI("m", base_url=url, vllm=False).generate(Request("a"))


async def test_garbage_in_a_package() -> None:
    """An answer that claims to be packed and is not is a bad reply."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc")

    with on_a_socket(answer) as url, pytest.raises(BadReply, match="cannot be unpacked"):
        await OpenAI("m", base_url=url, vllm=False).generate(Request("a"))


def test_one_model_in_many_loops() -> None:
    """Three event loops, one after another, use one model; each takes its connections with it when it ends."""
    with on_a_socket(lambda handler: say(handler, completion("18"))) as url:
        lm = OpenAI("m", base_url=url)

        async def work() -> int:
            samples = await asyncio.gather(*(lm.generate(Request("a")) for _ in range(5)))
            return len(samples)

        assert [asyncio.run(work()) for _ in range(3)] == [5, 5, 5]
        assert lm._server._lines == {}
    gc.collect()  # a socket left open would warn here, and warnings are errors


async def test_closing_twice_and_using_again() -> None:
    """Closing gives the connections back; it may be done twice, or before there are any."""
    with on_a_socket(lambda handler: say(handler, completion("18"))) as url:
        lm = OpenAI("m", base_url=url)
        await lm.aclose()
        await lm.generate(Request("a"))
        await lm.aclose()
        await lm.aclose()
        assert lm._server._lines == {}
