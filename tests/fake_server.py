"""Servers for tests: `Fake` answers by a rule, inside httpx or on a real socket; `on_a_socket` says what it likes."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from typing import Any

import httpx

from icl.backends import OpenAI


def completion(*texts: str) -> dict[str, Any]:
    """What a server says to a prompt of seven tokens, five tokens for each text."""
    choices = [{"index": i, "text": text, "finish_reason": "stop"} for i, text in enumerate(texts)]
    return {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 5 * len(texts)}}


def models(*names: str, owner: str = "someone", **more: Any) -> dict[str, Any]:
    """What a server lists under /models."""
    return {"data": [{"id": name, "owned_by": owner, **more} for name in names]}


def doubled(prompt: str, seed: int) -> str:
    """The answer to the last "What is 7 + 7?", right two times out of three, decided by prompt and seed alone."""
    number = int(prompt.rsplit("What is ", 1)[1].split(maxsplit=1)[0])
    drawn = blake2b(f"{prompt}\0{seed}".encode(), digest_size=2).digest()[0]
    return f" Doubling it. The answer is {2 * number + (drawn % 3 == 0) * (1 + drawn % 2)}."


def sampled(text: Callable[[str, int], str] = doubled, *, delay: float = 0.0) -> Callable[[str, Any], Any]:
    """An `answer` for `Fake`, after a moment: sample i is the text for prompt and seed + i."""

    def answer(_: str, body: Any) -> Any:
        sleep(delay)
        return completion(*(text(body["prompt"], body["seed"] + i) for i in range(body["n"])))

    return answer


@dataclass
class Fake:
    """A server that answers /models with a list and everything else with `answer`, and records all calls.

    `answer` gets the path and the body, and gives JSON, or a whole response.
    """

    answer: Callable[[str, Any], Any] = lambda _, body: completion(*["18"] * body["n"])
    models: Any = field(default_factory=lambda: models("m"))
    calls: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[httpx.Headers] = field(default_factory=list)
    url: str = ""  # up to and with /v1, once it listens

    def lm(self, model: str = "m", **options: Any) -> OpenAI:
        """The backend, talking to this server inside httpx."""
        options = {"base_url": "http://test.example/v1", "transport": httpx.MockTransport(self.handle), **options}
        return OpenAI(model, **options)

    @contextmanager
    def listening(self) -> Iterator["Fake"]:
        """Itself, on a real socket until the block ends."""

        def answer(handler: Handler) -> None:
            url = httpx.URL(self.url).join(handler.path)
            say(handler, self.handle(httpx.Request(handler.command, url, content=handler.body)))

        with on_a_socket(answer) as self.url:
            yield self

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one call."""
        body = json.loads(request.content) if request.content else None
        path = request.url.path
        self.calls.append((path, body))
        self.headers.append(request.headers)
        return response(self.models if path.endswith("/models") else self.answer(path, body))

    @property
    def asked(self) -> list[tuple[str, Any]]:
        """The calls but those for /models."""
        return [(path, body) for path, body in self.calls if not path.endswith("/models")]

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Prompt and seed of every sample that was asked for."""
        return [(body["prompt"], body["seed"] + i) for _, body in self.asked for i in range(body["n"])]


class Handler(BaseHTTPRequestHandler):
    """One connection; `body` is what the call in hand brought."""

    protocol_version = "HTTP/1.1"
    body = b""

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class Listener(ThreadingHTTPServer):
    """A thread for each connection; none keeps the tests from ending."""

    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        """A client that went away, or was killed, is no news here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*args)


@contextmanager
def on_a_socket(answer: Callable[[Handler], None]) -> Iterator[str]:
    """A real server on this machine, in a thread; `answer` writes what it likes. Yields its address, with /v1."""

    class Answering(Handler):
        def do_GET(self) -> None:
            self.body = b""
            answer(self)

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            self.body = self.rfile.read(length)
            if len(self.body) < length:
                raise ConnectionResetError("the client was killed in the middle of its request")
            answer(self)

    server = Listener(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def say(handler: BaseHTTPRequestHandler, reply: Any) -> None:
    """Answer with JSON, or with a whole response."""
    whole = response(reply)
    handler.send_response(whole.status_code)
    for name, value in {"content-length": str(len(whole.content)), **whole.headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(whole.content)


def response(reply: Any) -> httpx.Response:
    """The reply as a response, if it is not one."""
    return reply if isinstance(reply, httpx.Response) else httpx.Response(200, json=reply)
