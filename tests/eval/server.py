"""An OpenAI-compatible server on this machine that answers by a rule and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from typing import Any


def rule(prompt: str, seed: int) -> str:
    """The answer to the last question, right two times out of three, decided by prompt and seed alone."""
    number = int(prompt.rsplit("What is ", 1)[1].split(maxsplit=1)[0])
    drawn = blake2b(f"{prompt}\0{seed}".encode(), digest_size=2).digest()[0]
    return f" Doubling it. The answer is {2 * number + (drawn % 3 == 0) * (1 + drawn % 2)}."


@dataclass
class FakeServer:
    """What the server was asked, and how it behaves."""

    url: str = ""
    delay: float = 0.0
    answer: Callable[[str, int], str] = rule
    status: int = 200
    garbage: bool = False
    asked: list[tuple[str, int]] = field(default_factory=list)  # (prompt, seed) of every sample


@contextmanager
def fake_server(**behaviour: Any) -> Iterator[FakeServer]:
    """The server, on a free port of the loopback address, until the block ends."""
    fake = FakeServer(**behaviour)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply({"data": [{"id": "fake", "owned_by": "tests"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seeds = [body["seed"] + i for i in range(body["n"])]
            fake.asked += [(body["prompt"], seed) for seed in seeds]
            sleep(fake.delay)
            texts = [fake.answer(body["prompt"], seed) for seed in seeds]
            usage = {"prompt_tokens": 7, "completion_tokens": 5 * len(texts), "total_tokens": 7 + 5 * len(texts)}
            choices = [{"index": i, "text": text, "finish_reason": "stop"} for i, text in enumerate(texts)]
            self.reply({"object": "text_completion", "choices": choices, "usage": usage})

        def reply(self, value: Any) -> None:
            content = b"<html>busy" if fake.garbage else json.dumps(value).encode()
            self.send_response(fake.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that was killed is no news here."""

    server = Server(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
