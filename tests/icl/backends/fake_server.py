"""Servers for tests: one inside httpx, one on a real socket."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from icl.backends import OpenAI


def completion(*texts: str) -> dict[str, Any]:
    """What a server says to a prompt of three tokens, one token for each text."""
    choices = [{"index": i, "text": text, "finish_reason": "stop"} for i, text in enumerate(texts)]
    return {"choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": len(texts)}}


def models(*names: str, owner: str = "someone", **more: Any) -> dict[str, Any]:
    """What a server lists under /models."""
    return {"data": [{"id": name, "owned_by": owner, **more} for name in names]}


@dataclass
class Fake:
    """An httpx transport that answers /models with a list and everything else with `answer`, and records all calls.

    `answer` gets the path and the body, and gives JSON, or a whole response.
    """

    answer: Callable[[str, Any], Any] = lambda _, body: completion(*["18"] * body["n"])
    models: Any = field(default_factory=lambda: models("m"))
    calls: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[httpx.Headers] = field(default_factory=list)

    def lm(self, model: str = "m", **options: Any) -> OpenAI:
        """The backend, talking to this server."""
        options = {"base_url": "http://test.example/v1", "transport": httpx.MockTransport(self.handle), **options}
        return OpenAI(model, **options)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one call."""
        body = json.loads(request.content) if request.content else None
        path = request.url.path
        self.calls.append((path, body))
        self.headers.append(request.headers)
        answer = self.models if path.endswith("/models") else self.answer(path, body)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    @property
    def asked(self) -> list[tuple[str, Any]]:
        """The calls but those for /models."""
        return [(path, body) for path, body in self.calls if not path.endswith("/models")]


@contextmanager
def on_a_socket(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real server on this machine, in a thread; `answer` writes what it likes. Yields its address, with /v1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer(self)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def say(handler: BaseHTTPRequestHandler, reply: Any) -> None:
    """Answer with JSON."""
    body = json.dumps(reply).encode()
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
