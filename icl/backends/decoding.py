"""Generating with a transformers model: prompts of a batch are prefilled once, then rows grow and leave as they end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from icl.backends.batching import Share, Size
from icl.backends.sampling import drawn, filtered
from icl.backends.soft import inputs, prefixes
from icl.backends.tokens import Growing, text_of
from icl.lm import Completion, Request
from templates.tokens import Encoded

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Generation:
    """A request in token ids. Its parts are its samples; greedy samples are all the same, so there is one."""

    request: Request
    prompt: Encoded
    room: int  # tokens that a completion may have

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken."""
        return self.request.greedy

    @property
    def parts(self) -> int:
        """How many different samples there are."""
        return self.request.distinct

    def size(self, parts: range) -> Size:
        """A row for each sample."""
        return Size(len(self.prompt), len(parts), self.room, 1)


@dataclass
class Prefilled:
    """Prompts whose keys and values are known, padded on the left to one length."""

    cache: Any  # a transformers Cache of R rows
    mask: "Tensor"  # [R, T], 1 where a token stands
    logits: "Tensor"  # [R, V], of the token after each prompt

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be repeated."""
        import torch

        if list(rows) == list(range(len(self.mask))):
            return
        index = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask, self.logits = self.mask[index], self.logits[index]


def prefill(model: Any, prompts: Sequence[Encoded]) -> Prefilled:
    """Run the model once over all the prompts; prefixes stand before them, each padded on the left to one length."""
    import torch

    longest = max(len(prompt.ids) for prompt in prompts)
    cache, before = prefixes(model, [prompt.prefix for prompt in prompts])  # before: [R, P]
    own = [[0] * (longest - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts]
    mask = torch.cat([before, torch.tensor(own, device=model.device)], dim=1)  # [R, P + T]
    output = model(
        **inputs(model, [prompt.ids for prompt in prompts], [prompt.soft for prompt in prompts]),
        attention_mask=mask,
        # The first token is at 0, wherever it stands; text after a prefix of P tokens starts at P.
        position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, -longest:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return Prefilled(output.past_key_values, mask, output.logits[:, -1].float())


def decode(model: Any, tokenizer: Any, ends: frozenset[int], shares: Sequence[Share]) -> list[list[Completion]]:
    """The samples of each share.

    Args:
        model: a causal language model of transformers.
        tokenizer: the model's.
        ends: tokens that end a completion.
        shares: of `Generation` tasks.
    Returns:
        For each share the completions of its parts.
    """
    import torch

    groups = apart(model, shares)
    if len(groups) > 1:
        found = {
            id(share): one
            for group in groups
            for share, one in zip(group, decode(model, tokenizer, ends, group), strict=True)
        }
        return [found[id(share)] for share in shares]
    prompts = {share.task.prompt: None for share in shares}
    place = {prompt: i for i, prompt in enumerate(prompts)}
    rows = [Row(share, part, tokenizer, ends) for share in shares for part in share.parts]
    done = {(id(row.share), row.part): row for row in rows}
    with torch.inference_mode():
        state = prefill(model, list(prompts))
        state.select([place[row.share.task.prompt] for row in rows])
        while True:
            for row, token, logprob in zip(rows, *chosen(state.logits, rows), strict=True):
                row.take(token, logprob)
            going = [i for i, row in enumerate(rows) if not row.finish and not row.share.abandoned]
            if not going:
                break
            if len(going) < len(rows):
                rows = [rows[i] for i in going]
                state.select(going)
            _step(model, state, rows)
    return [[done[id(share), part].completion() for part in share.parts] for share in shares]


def apart(model: Any, shares: Sequence[Share]) -> list[list[Share]]:
    """The shares that may run together.

    Attention windows count places, padding included. Padding on the left of everything does no harm; between a prefix
    and its text it would: there all rows must be of one length.
    """
    if not any(share.task.prompt.prefix for share in shares) or not _slides(model):
        return [list(shares)]
    alike: dict[tuple[int, int], list[Share]] = {}
    for share in shares:
        prompt = share.task.prompt
        alike.setdefault((len(prompt.ids), len(prompt)), []).append(share)
    return list(alike.values())


def _slides(model: Any) -> bool:
    return getattr(model.config.get_text_config(), "sliding_window", None) is not None


def chosen(logits: "Tensor", rows: Sequence["Row"]) -> tuple[list[int], list[float]]:
    """The next token of each row, and its log-probability in the model's own distribution where a row wants it.

    Args:
        logits: [B, V].
        rows: B rows; those sampled alike are filtered together, for speed only.
    """
    import torch

    tokens = logits.argmax(-1)  # [B]
    sampled = sorted((i for i, row in enumerate(rows) if not row.task.greedy), key=lambda i: rows[i].law)
    for (temperature, top_k, top_p), group in groupby(sampled, key=lambda i: rows[i].law):
        alike = list(group)
        uniforms = np.array([rows[i].random.random() for i in alike])
        own = logits if len(alike) == len(rows) else logits[alike]
        tokens[alike] = drawn(filtered(own, temperature, top_k, top_p), uniforms)
    if not any(row.task.request.logprobs for row in rows):
        return tokens.tolist(), [0.0] * len(rows)
    picked = logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(logits, -1)
    return tokens.tolist(), picked.tolist()


@dataclass
class Row:
    """One sample while it grows."""

    share: Share
    part: int
    tokenizer: Any
    ends: frozenset[int]
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish: str = ""  # "stop" or "length" when it has ended

    def __post_init__(self) -> None:
        self.task: Generation = self.share.task
        request = self.task.request
        self.law = (request.temperature, request.top_k, request.top_p)
        self.random = np.random.default_rng((request.seed + self.part) % 2**64)  # its own, whatever else runs
        self.growing = Growing(self.tokenizer, list(self.task.prompt.ids), request.stop)

    @property
    def position(self) -> int:
        """Of the newest token."""
        return len(self.task.prompt) + len(self.tokens) - 1

    def take(self, token: int, logprob: float) -> None:
        """Grow by a token, and see whether that is the end."""
        self.tokens.append(token)
        self.logprob += logprob
        if token in self.ends:
            self.finish = "stop"
            return
        if self.task.request.stop:
            self.growing.add(token)
        if self.growing.stopped:
            self.finish = "stop"
        elif len(self.tokens) == self.task.room:
            self.finish = "length"

    def completion(self) -> Completion:
        """What has grown. The token that ended it is counted, and not part of the text."""
        words = self.tokens[:-1] if self.tokens[-1] in self.ends else self.tokens
        request = self.task.request
        return Completion(
            text=self.growing.text if request.stop else text_of(self.tokenizer, list(self.task.prompt.ids), words),
            finish="length" if self.finish == "length" else "stop",
            prompt_tokens=len(self.task.prompt),
            tokens=len(self.tokens),
            logprob=self.logprob if request.logprobs else None,
        )


def _step(model: Any, state: Prefilled, rows: Sequence[Row]) -> None:
    """Run the model over the newest token of each row."""
    import torch

    newest = torch.tensor([[row.tokens[-1]] for row in rows], device=model.device)
    positions = torch.tensor([[row.position] for row in rows], device=model.device)
    state.mask = torch.cat([state.mask, torch.ones_like(newest)], dim=1)
    output = model(
        input_ids=newest,
        attention_mask=state.mask,
        position_ids=positions,
        past_key_values=state.cache,
        use_cache=True,
    )
    state.logits = output.logits[:, -1].float()
