"""JSON to and from one HTTP server: bounded, from any event loop, with every failure as one of our errors."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from math import ceil
from typing import Any

import httpx

from icl.backends.wire import quote
from templates.errors import BadReply, ICLError, PromptTooLong, Refused, Transient, UserError

_CONNECT = 30.0  # seconds; a server that is there answers the knock at once, however busy it is
_SHARE = 4  # calls at once on one client: it looks through all its connections at every call
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BUSY = (408, 409, 425, 429)
_AWAY = (502, 503, 504)  # a proxy in front of a server that is not up yet
_REFUSED = (400, 413, 422)  # for what the request says
_KEY = re.compile(r"\bsk-[\w*.-]+")
_TOO_LONG = re.compile(r"context.length|context.window|prompt is too long|too many tokens", re.IGNORECASE)


@dataclass
class Server:
    """One server. Its connections live as long as the event loop that made them, or until `aclose`.

    Args:
        url: what all paths are relative to.
        headers: sent with every call.
        secret: never shown, whatever the server says.
        concurrency: calls at once, in each event loop.
        timeout: seconds for one call.
        transport: instead of sockets.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str = field(default="", repr=False)
    concurrency: int = 256
    timeout: float = 600.0
    transport: httpx.AsyncBaseTransport | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse an address that is none."""
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise UserError(f"base_url must be like http://localhost:8000/v1: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UserError(f"base_url must be like http://localhost:8000/v1, got {self.url!r}")
        self.place = parsed.netloc.decode()  # host and port
        path = parsed.path.rstrip("/")
        self.address = self.place + (path if path != "/v1" else "")  # one host may have several servers behind it
        self._host = parsed.host
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}
        self._models: list[dict[str, Any]] | None = None

    async def ask(self, path: str, body: Mapping[str, Any] | None = None, *, root: bool = False) -> httpx.Response:
        """What the server answers to a POST of the body, or without one to a GET, whatever its status; see `read`.

        With `root` the path is not under the address's /v1 but beside it, where /tokenize is.

        Raises:
            Transient: the server could not be reached, or did not answer in time.
            BadReply: its answer could not even be unpacked.
        """
        line = await self._line()
        base = self.url.rstrip("/")
        url = httpx.URL((base.removesuffix("/v1") if root else base) + path)
        try:
            async with line.turn() as client:
                return await (client.get(url) if body is None else client.post(url, json=body))
        except httpx.ConnectError as error:
            raise Transient(f"cannot connect to {_plain(url)} ({error}); is the server running?") from error
        except httpx.TimeoutException as error:
            raise Transient(
                f"{_plain(url)} did not answer within {self.timeout:g} s ({type(error).__name__}); is the server "
                "running? If it is only slow, raise timeout"
            ) from error
        except httpx.TransportError as error:
            raise Transient(f"the connection to {_plain(url)} broke ({error or type(error).__name__})") from error
        except httpx.DecodingError as error:
            raise BadReply(f"{_plain(url)} answered what cannot be unpacked: {error}") from error

    def read(self, response: httpx.Response) -> Any:
        """The JSON of an answer, or the error that it stands for.

        Raises:
            Transient: busy, or failed itself: worth another try, after so many seconds where it said so.
            PromptTooLong: prompt and completion exceed the model's context.
            Refused: the server does not take what this request says.
            UserError: it takes no request that is made in this way.
            BadReply: not JSON.
        """
        if not response.is_success:
            raise self._refusal(response)
        try:
            return response.json()
        except ValueError:
            kind = response.headers.get("content-type", "no content type")
            raise BadReply(
                f"{self.place_of(response)} answered no JSON ({kind}): {quote(self._hidden(response.text))}"
            ) from None

    async def models(self) -> list[dict[str, Any]]:
        """What the server lists under /models, asked once; empty where it lists nothing.

        All who wait at one moment share one call, or its error; who comes after an error asks again.
        """
        if self._models is None:
            line = await self._line()
            if line.asking is None or line.asking.done():
                line.asking = asyncio.create_task(self._list())
            self._models = await asyncio.shield(line.asking)  # who stops waiting does not stop the call
        return self._models

    def message(self, response: httpx.Response) -> str:
        """What the server says about an error, on one line."""
        return quote(self._hidden(" ".join(_message(response).split())), most=500) or "no message"

    def place_of(self, response: httpx.Response) -> str:
        """The address that answered, for messages."""
        return _plain(response.request.url)

    async def aclose(self) -> None:
        """Close the connections of this event loop; those of another end with it."""
        if line := self._lines.get(asyncio.get_running_loop()):
            await line.keeper.aclose()

    async def _list(self) -> list[dict[str, Any]]:
        response = await self.ask("/models")
        if response.status_code in (*_BUSY, *_AWAY):
            raise self._refusal(response)
        return _cards(response)

    def _hidden(self, text: str) -> str:
        # Servers quote a refused key, whole or with stars in its middle.
        return _KEY.sub("***", text.replace(self.secret, "***") if self.secret else text)

    def _refusal(self, response: httpx.Response) -> ICLError:
        status, place, said = response.status_code, self.place_of(response), self.message(response)
        spent = "insufficient_quota" in response.text
        if response.is_server_error or (status in _BUSY and not spent):
            return Transient(f"{place} answered {status}: {said}", retry_after(response.headers))
        if status in _REFUSED and _TOO_LONG.search(response.text):
            return PromptTooLong(f"{place} says: {said} Use fewer or shorter demonstrations, or lower max_tokens")
        if response.has_redirect_location:
            return UserError(f"{place} has moved to {response.headers['location']}; give that as base_url")
        kind = Refused if status in _REFUSED and not spent else UserError
        return kind(f"{place} refused the request ({status}): {said}")

    async def _line(self) -> "_Line":
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            clients = [self._client() for _ in range(ceil(self.concurrency / _SHARE))]
            self._lines[loop] = _Line(clients, self._keep(loop, clients), self.concurrency)
            await anext(self._lines[loop].keeper)
        return self._lines[loop]

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=dict(self.headers),
            timeout=httpx.Timeout(self.timeout, connect=min(_CONNECT, self.timeout)),
            transport=self.transport,
            verify=self._certificates,
            trust_env=self._host not in _LOOPBACK,  # a proxy does not lead back to this machine
        )

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()  # takes long to read, so it is read once

    async def _keep(self, loop: asyncio.AbstractEventLoop, clients: list[httpx.AsyncClient]) -> AsyncGenerator[None]:
        # An event loop ends its asynchronous generators before it closes (asyncio.run does), so nothing stays open.
        try:
            yield
        finally:
            self._lines.pop(loop, None)
            for client in clients:
                await client.aclose()


class _Line:
    """What belongs to one event loop: clients, and the turns that calls take on them."""

    def __init__(self, clients: list[httpx.AsyncClient], keeper: AsyncGenerator[None], concurrency: int) -> None:
        self.keeper = keeper  # closes the clients when it is closed
        self.asking: asyncio.Task[list[dict[str, Any]]] | None = None  # the call to /models
        # Last in, first out: few calls at once stay on few connections, which are then still open.
        self._turns: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for turn in reversed(range(concurrency)):
            self._turns.put_nowait(clients[turn // _SHARE])

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[httpx.AsyncClient]:
        """Wait for a client that has a connection to spare."""
        client = await self._turns.get()
        try:
            yield client
        finally:
            self._turns.put_nowait(client)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait that a server asks for, in seconds; it may give seconds or a date."""
    said = headers.get("retry-after", "").strip()
    try:
        return float(said) if re.fullmatch(r"\d+(\.\d+)?", said) else _until(said)
    except (ValueError, TypeError):  # neither, or a date without a zone
        return None


def _until(date: str) -> float:
    return max((parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds(), 0.0)


def _plain(url: httpx.URL) -> str:
    return str(url.copy_with(username=None, password=None))


def _message(response: httpx.Response) -> str:
    """The message within an error's body, which every server wraps in its own way."""
    try:
        said = response.json()
    except ValueError:
        return response.text
    while isinstance(said, dict):
        said = next((said[key] for key in ("error", "message", "detail") if key in said), json.dumps(said))
    return said if isinstance(said, str) else json.dumps(said)


def _cards(response: httpx.Response) -> list[dict[str, Any]]:
    try:
        cards = response.json()["data"] if response.is_success else []
    except (ValueError, KeyError, TypeError):  # not JSON, or not a list of models: then there is none
        return []
    return [card for card in cards if isinstance(card, dict) and "id" in card] if isinstance(cards, list) else []
