"""OpenAI's wire format: a request as JSON, and JSON as completions. Everything here is pure."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from icl.lm import Completion, Request
from templates.errors import BadReply, Unsupported
from templates.prompt import Prompt, is_chat, shown, soft_prompts, turns

Limit = Literal["max_tokens", "max_completion_tokens"]

# A vLLM server fills what a request leaves out from the model's generation_config.json; this says what is meant.
_VLLM_PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_CUT = ("length", "max_tokens", "content_filter")  # reasons to finish that are not the model's own


def to_wire(
    model: str,
    request: Request,
    *,
    chat: bool | None = None,
    vllm: bool = False,
    limit: Limit = "max_tokens",
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of the one call for the request: for /chat/completions if it has messages, else for /completions.

    Greedy samples are all the same, so one is asked for. `extra` has the last word; None in it leaves a field out.
    """
    body = {"model": model, **asked(request.prompt, chat=chat, vllm=vllm)}
    body |= _VLLM_PLAIN if vllm else {}
    body |= {
        "n": request.distinct,
        "temperature": request.temperature,
        "top_p": request.top_p,
        limit: request.max_tokens,
        "seed": request.seed,
    }
    if request.top_k:
        body["top_k"] = request.top_k
    if request.stop:
        body["stop"] = list(request.stop)
    if request.logprobs:
        body["logprobs"] = True if "messages" in body else 1
    return {name: value for name, value in (body | dict(extra or {})).items() if value is not None}


def asked(prompt: Prompt, *, chat: bool | None = None, vllm: bool = False) -> dict[str, Any]:
    """The prompt's own fields: `prompt`, or `messages` and what makes vLLM continue a chat's last, unfinished turn.

    Raises:
        Unsupported: soft prompts, or a chat where `chat` is False.
    """
    if soft := soft_prompts(prompt):
        raise Unsupported(f"a server takes text, but the prompt has {len(soft)} soft prompts; use VLLM or Transformers")
    if not is_chat(prompt):
        return {"messages": [{"role": "user", "content": shown(prompt)}]} if chat else {"prompt": shown(prompt)}
    if chat is False:
        raise Unsupported("the prompt is a chat, but chat=False; take a template of plain text, or let chat be None")
    messages = [{"role": turn.role, "content": shown(turn.content)} for turn in turns(prompt)]
    if vllm and turns(prompt)[-1].role == "assistant":
        return {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    return {"messages": messages}


def from_wire(reply: Any, request: Request) -> list[Completion]:
    """The completions in a server's reply, in sample order.

    A reply has one count of completion tokens for all samples. Where it also has token ids or log-probabilities, and
    these add up to that count, each sample gets its own; otherwise the count is split evenly, the remainder on the
    first samples, so that the sum is exact. A reply without usage counts as no tokens.

    Raises:
        BadReply: names what is missing.
    """
    said = _read(_Reply, reply)
    wanted = request.distinct
    if len(said.choices) != wanted:
        hint = '; if this server gives one sample a call, set samples="one each"' if len(said.choices) == 1 else ""
        raise BadReply(f"asked for {wanted} samples, the reply has {len(said.choices)} choices{hint}: {quote(reply)}")
    choices = [choice for _, choice in sorted(enumerate(said.choices), key=lambda pair: pair[1].place(pair[0]))]
    logprobs = [_logprob(i, choice, reply) if request.logprobs else None for i, choice in enumerate(choices)]
    completions = [
        Completion(
            text=_text(i, choice, reply),
            finish="length" if choice.finish_reason in _CUT else "stop",
            prompt_tokens=said.usage.prompt_tokens,
            cached_tokens=said.usage.cached_tokens,
            tokens=tokens,
            logprob=logprobs[i],
        )
        for i, (choice, tokens) in enumerate(zip(choices, _tokens(said.usage, choices), strict=True))
    ]
    return completions * (request.n // wanted)


def prompt_logprobs(reply: Any, ids: Sequence[Sequence[int]]) -> list[list[float]]:
    """The log-probability of every token of every prompt but its first, from a vLLM server's `prompt_logprobs=0`.

    Args:
        reply: to one call with several prompts.
        ids: the prompts' token ids.

    Raises:
        BadReply: names what is missing.
    """
    choices = sorted(_read(_Scored, reply).choices, key=lambda choice: choice.index)
    if [len(choice.prompt_logprobs) for choice in choices] != [len(prompt) for prompt in ids]:
        raise BadReply(f"the reply lacks prompt_logprobs for some of the {len(ids)} prompts: {quote(reply)}")
    try:
        return [
            [(row or {})[str(token)].logprob for row, token in zip(choice.prompt_logprobs[1:], prompt[1:], strict=True)]
            for choice, prompt in zip(choices, ids, strict=True)
        ]
    except KeyError as error:
        raise BadReply(f"the reply's prompt_logprobs lack token {error}: {quote(reply)}") from None


def quote(reply: Any, most: int = 200) -> str:
    """The start of a reply, for messages."""
    text = reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)
    return text if len(text) <= most else text[: most - 1] + "…"


class _Cached(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None

    @property
    def cached_tokens(self) -> int:
        return (self.prompt_tokens_details.cached_tokens or 0) if self.prompt_tokens_details else 0


class _Token(BaseModel):
    logprob: float


class _Logprobs(BaseModel):
    token_logprobs: list[float] | None = None  # of /completions
    content: list[_Token] | None = None  # of /chat/completions

    @property
    def values(self) -> list[float] | None:
        return self.token_logprobs if self.content is None else [token.logprob for token in self.content]


class _Message(BaseModel):
    content: str | None  # null where the model said nothing, or only thought


class _Choice(BaseModel):
    index: int | None = None
    text: str | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    token_ids: list[int] | None = None

    def place(self, default: int) -> int:
        return default if self.index is None else self.index


class _Reply(BaseModel):
    choices: list[_Choice]
    usage: _Usage = _Usage()


class _ScoredChoice(BaseModel):
    index: int
    prompt_logprobs: list[dict[str, _Token] | None]


class _Scored(BaseModel):
    choices: list[_ScoredChoice]


M = TypeVar("M", bound=BaseModel)


def _read(kind: type[M], reply: Any) -> M:
    try:
        return kind.model_validate(reply)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadReply(
            f"not a reply of an OpenAI-compatible server ({where}: {first['msg']}): {quote(reply)}"
        ) from None


def _text(i: int, choice: _Choice, reply: Any) -> str:
    if choice.message is not None:
        return choice.message.content or ""
    if choice.text is None:
        raise BadReply(f"choices.{i} has neither text nor message: {quote(reply)}")
    return choice.text


def _logprob(i: int, choice: _Choice, reply: Any) -> float:
    values = choice.logprobs.values if choice.logprobs else None
    if values is None:
        raise BadReply(f"choices.{i}.logprobs is missing, but log-probabilities were asked for: {quote(reply)}")
    return sum(values)


def _tokens(usage: _Usage, choices: Sequence[_Choice]) -> list[int]:
    """The tokens of each choice; their sum is what the server counted."""
    total = usage.completion_tokens or 0
    known = [choice.token_ids or (choice.logprobs.values if choice.logprobs else None) or () for choice in choices]
    if sum(map(len, known)) == total:
        return [len(tokens) for tokens in known]
    marks = [total * i // len(choices) for i in range(len(choices) + 1)]
    return sorted((after - before for before, after in pairwise(marks)), reverse=True)
