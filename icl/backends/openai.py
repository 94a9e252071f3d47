"""Models behind an OpenAI-compatible API: `vllm serve` and its fleets, hosted models, gateways."""

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import quote_plus

import httpx
from pydantic import BaseModel, ValidationError

from icl.backends.server import Server
from icl.backends.wire import Limit, asked, from_wire, prompt_logprobs, quote, to_wire
from icl.concurrency import gather
from icl.lm import Completion, Request, Score
from templates.errors import BadReply, Unsupported, UserError
from templates.prompt import Prompt, extended
from templates.tokens import begun

_KEY = "OPENAI_API_KEY"
_LISTED = 5  # models named in a message


@dataclass
class OpenAI:
    """A model on a server. Failures are not retried here: wrap it in `Retrying`.

    A request is one call. Every sample carries the call's prompt tokens; `from_wire` says how completion tokens are
    shared out. Sample i of n equals the only sample of `seed + i` on a vLLM server, which promises it; elsewhere a
    seed is at most a hint, and where only single samples can be trusted, `samples="one each"` makes n calls.

    Args:
        model: as the server calls it.
        base_url: up to and with /v1.
        api_key: by default the environment's OPENAI_API_KEY; where there is none, none is sent.
        chat: None sends chats to /chat/completions and text to /completions; True sends text as one user turn, for
            servers that only chat; False refuses chats.
        vllm: whether the server is vLLM's, which then gets what only it understands: unset sampling parameters are off
            instead of the model's own defaults, a chat that ends in an assistant's turn is continued, prompts are
            counted, continuations scored. None asks the server's /models, once.
        samples: n samples in "one call", or in n calls with seeds of their own.
        limit: what the server calls the most tokens of a completion.
        concurrency: calls at once, in each event loop.
        timeout: seconds for one call.
        extra: more fields for every call's body, with the last word: None leaves a field out.
        transport: httpx's, instead of sockets.
    """

    model: str
    base_url: str = field(default="https://api.openai.com/v1", kw_only=True)
    api_key: str | None = field(default=None, kw_only=True, repr=False)
    chat: bool | None = field(default=None, kw_only=True)
    vllm: bool | None = field(default=None, kw_only=True)
    samples: Literal["one call", "one each"] = field(default="one call", kw_only=True)
    limit: Limit = field(default="max_tokens", kw_only=True)
    concurrency: int = field(default=256, kw_only=True)
    timeout: float = field(default=600.0, kw_only=True)
    extra: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    transport: httpx.AsyncBaseTransport | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        """Refuse what no server can do."""
        if self.samples not in ("one call", "one each"):
            raise UserError(f'samples must be "one call" or "one each", got {self.samples!r}')
        if self.concurrency < 1 or not self.timeout > 0:
            raise UserError(
                f"a server needs concurrency ≥ 1 and timeout > 0, got {self.concurrency} and {self.timeout} s"
            )
        self._key = (self.api_key or os.environ.get(_KEY, "")).strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UserError(f"the key in {'api_key' if self.api_key else _KEY} has characters that no key has")
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._server = Server(
            self.base_url, headers, self._key, self.concurrency, self.timeout, transport=self.transport
        )

    @property
    def name(self) -> str:
        """Address and model, and every option that changes what the model says."""
        each = self.samples if self.samples == "one each" else None
        own = {"chat": self.chat, "samples": each, "vllm": False if self.vllm is False else None}
        said = {key: value for key, value in own.items() if value is not None} | dict(self.extra)
        options = "&".join(f"{key}={quote_plus(json.dumps(value))}" for key, value in said.items())
        return f"openai/{self._server.address}/{self.model}" + (f"?{options}" if options else "")

    async def generate(self, request: Request) -> list[Completion]:
        """The samples of the request."""
        if self.samples == "one each" and request.distinct > 1:
            parts = [replace(request, n=1, seed=request.seed + i) for i in range(request.n)]
            return [completion for [completion] in await gather(self.generate, parts)]
        body = to_wire(
            self.model, request, chat=self.chat, vllm=await self._is_vllm(), limit=self.limit, extra=self.extra
        )
        path = "/chat/completions" if "messages" in body else "/completions"
        return from_wire(await self._ask(path, body), request)

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        """Log-probabilities of each continuation after the prompt, on a vLLM server, in one call.

        Raises:
            Unsupported: another server: the API has no log-probabilities of given text.
        """
        if not await self._is_vllm():
            raise Unsupported(f"{self.name} cannot score continuations; use VLLM, Transformers, or a vLLM server")
        if not continuations:
            return []
        start = begun(await self._ids(prompt), self.model)
        wholes = await gather(lambda continuation: self._with(prompt, start, continuation), continuations)
        body = {"model": self.model, "prompt": wholes, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        read = prompt_logprobs(await self._ask("/completions", body), wholes)
        return [Score(tuple(logprobs[len(start) - 1 :])) for logprobs in read]

    async def count(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, on a vLLM server.

        Raises:
            Unsupported: another server. Then prompts go out uncounted, and one that is too long comes back as such.
        """
        if not await self._is_vllm():
            raise Unsupported(f"{self.name} does not count tokens; only a vLLM server does")
        return [len(ids) for ids in await gather(self._ids, prompts)]

    async def context(self) -> int:
        """Tokens that prompt and completion may have together, where the server tells.

        Raises:
            Unsupported: it does not.
        """
        for card in await self._server.models():
            if card["id"] == self.model and isinstance(card.get("max_model_len"), int):
                return int(card["max_model_len"])
        raise Unsupported(f"{self.name} does not tell its context length; prompts cannot be cut to fit it")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.aclose()

    async def _is_vllm(self) -> bool:
        if self.vllm is not None:
            return self.vllm
        return any(card.get("owned_by") == "vllm" for card in await self._server.models())

    async def _with(self, prompt: Prompt, start: list[int], continuation: str) -> list[int]:
        """Token ids of prompt and continuation: of both together, unless that changes the prompt's own."""
        if not continuation:
            raise UserError("an empty continuation has no tokens to score; leave it out")
        if "prompt" in asked(prompt, chat=self.chat):
            whole = await self._ids(extended(prompt, continuation))
            if len(whole) > len(start) and whole[: len(start)] == start:
                return whole
        return start + await self._tokenize({"prompt": continuation, "add_special_tokens": False})

    async def _ids(self, prompt: Prompt) -> list[int]:
        return await self._tokenize(asked(prompt, chat=self.chat, vllm=True))

    async def _tokenize(self, body: Mapping[str, Any]) -> list[int]:
        reply = await self._ask("/tokenize", {"model": self.model, **body}, root=True)
        try:
            return _Tokens.model_validate(reply).tokens
        except ValidationError:
            raise BadReply(f"{self.name} counted no tokens in its reply to /tokenize: {quote(reply)}") from None

    async def _ask(self, path: str, body: Mapping[str, Any], *, root: bool = False) -> Any:
        response = await self._server.ask(path, body, root=root)
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            place, said = self._server.place_of(response), self._server.message(response)
            sent = (
                f"check the key in {'api_key' if self.api_key else _KEY}"
                if self._key
                else f"no key was sent: set {_KEY}"
            )
            raise UserError(f"{place} refused us ({response.status_code}): {said}; {sent}")
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise await self._not_found(response, root=root)
        return self._server.read(response)

    async def _not_found(self, response: httpx.Response, *, root: bool) -> UserError:
        place, said = self._server.place_of(response), self._server.message(response)
        known = [str(card["id"]) for card in await self._server.models()]
        if root and (self.model in known or not known):
            return Unsupported(f"there is nothing at {place} ({said}), so {self.name} neither counts nor scores")
        if not known:
            return UserError(f"there is nothing at {place} ({said}); base_url goes up to and with /v1, check it")
        if self.model in known:
            return UserError(f"{place} refused {self.model!r}: {said}; if it only chats, set chat=True")
        near = sorted(known, key=lambda name: -difflib.SequenceMatcher(None, name, self.model).ratio())[:_LISTED]
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        return UserError(f"no model {self.model!r} at {self._server.place}; it has {', '.join(near)}{more}")


class _Tokens(BaseModel):
    tokens: list[int]
