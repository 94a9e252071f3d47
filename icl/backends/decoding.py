"""Generating with a transformers model: prompts are prefilled once; samples grow side by side behind them.

Dimensions: R rows, S samples in a row, B samples in all, C columns of the cache, T tokens, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from icl.backends.attention import Windows, blocked, sees_everything
from icl.backends.batching import Share, Size
from icl.backends.sampling import drawn, filtered
from icl.backends.soft import inputs, prefixes
from icl.backends.tokens import Growing, text_of
from icl.lm import Completion, Request
from templates.tokens import Encoded

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_PACKED = 4  # samples stand together behind a prompt until they may grow to so many times its length


@dataclass(frozen=True)
class Generation:
    """A request in token ids. Its parts are its samples; greedy samples are all the same, so there is one.

    Packed, samples stand side by side behind their prompt in one row, each masked from the others, so that the keys
    and values of the prompt are kept and read once for all of them. Otherwise each gets a row of its own.
    """

    request: Request
    prompt: Encoded
    room: int  # tokens that a completion may have
    packed: bool

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken."""
        return self.request.greedy

    @property
    def parts(self) -> int:
        """How many different samples there are."""
        return self.request.distinct

    def lines(self, samples: Sequence[T]) -> list[Sequence[T]]:
        """The samples of each row. More in one row save memory, and cost arithmetic on what is masked."""
        width = max(1, _PACKED * len(self.prompt) // self.room) if self.packed else 1
        return [samples[start : start + width] for start in range(0, len(samples), width)]

    def size(self, parts: range) -> Size:
        """A row for each line; it grows by as many tokens at a time as there are samples in it."""
        lines = self.lines(parts)
        return Size(len(self.prompt), len(lines), len(lines[0]) * self.room, len(lines[0]))


@dataclass
class Context:
    """What the next tokens of R rows are to see: S samples side by side behind each prompt."""

    cache: Any  # a transformers Cache of R rows and C columns
    seen: "Tensor"  # [R, S, C] bool: what each sample may look at, padding on the left excepted

    def select(self, rows: Sequence[int], slots: Sequence[Sequence[int]]) -> None:
        """Keep these rows in this order, and of each row these samples; both may be repeated."""
        import torch

        index = torch.tensor(rows, device=self.seen.device)
        if list(rows) != list(range(len(self.seen))):
            self.cache.batch_select_indices(index)
        self.seen = self.seen[index[:, None], torch.tensor(filled(slots), device=self.seen.device)]

    def grow(self) -> None:
        """Every sample gets a token, which it alone sees."""
        import torch

        rows, samples, _ = self.seen.shape
        own = torch.eye(samples, dtype=torch.bool, device=self.seen.device).expand(rows, -1, -1)
        self.seen = torch.cat([self.seen, own], dim=2)

    def mask(self, dtype: Any) -> "Tensor":
        """[R, C] for one sample in a row, which is all that models with sliding windows take; else [R, 1, S, C]."""
        return self.seen[:, 0].long() if self.seen.shape[1] == 1 else blocked(self.seen, dtype)


def prefill(model: Any, prompts: Sequence[Encoded]) -> tuple[Context, "Tensor"]:
    """Run the model once over all the prompts; prefixes stand before them, each padded on the left to one length.

    Returns:
        The context of one sample behind each prompt, and the logits of its first token, [R, V].
    """
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
    return Context(output.past_key_values, mask[:, None].bool()), output.logits[:, -1].float()


def decode(
    model: Any, windows: Windows | None, tokenizer: Any, ends: frozenset[int], shares: Sequence[Share]
) -> list[list[Completion]]:
    """The samples of each share.

    Args:
        model: a causal language model of transformers.
        windows: of the model; see `windows_of`.
        tokenizer: the model's.
        ends: tokens that end a completion.
        shares: of `Generation` tasks.
    Returns:
        For each share the completions of its parts.
    """
    samples = {share: [Sample(share, part, tokenizer, ends) for part in share.parts] for share in shares}
    for group in apart(windows, shares):
        _grow(model, {share: samples[share] for share in group})
    return [[sample.completion() for sample in own] for own in samples.values()]


def _grow(model: Any, samples: "Mapping[Share, Sequence[Sample]]") -> None:
    """Let the samples of each share grow, side by side, until they have ended or nobody waits for them any more."""
    import torch

    prompts = list(dict.fromkeys(share.task.prompt for share in samples))
    place = {prompt: row for row, prompt in enumerate(prompts)}
    lines = [line for share, own in samples.items() for line in share.task.lines(own)]
    with torch.inference_mode():
        context, logits = prefill(model, prompts)
        rows = [place[line[0].task.prompt] for line in lines]
        context.select(rows, [[0] * len(line) for line in lines])
        logits = logits[[row for row, line in zip(rows, lines, strict=True) for _ in line]]  # [B, V]
        while True:
            live = [sample for line in lines for sample in line]  # B samples
            for sample, token, logprob in zip(live, *chosen(logits, live), strict=True):
                sample.take(token, logprob)
            going = [[slot for slot, sample in enumerate(line) if sample.grows] for line in lines]
            rows = [row for row, slots in enumerate(going) if slots]
            if not rows:
                return
            context.select(rows, [going[row] for row in rows])
            lines = [[lines[row][slot] for slot in going[row]] for row in rows]
            logits = _step(model, context, lines)


def apart(windows: Windows | None, shares: Sequence[Share]) -> list[list[Share]]:
    """The shares that may run together.

    Attention windows count places, padding included. Padding on the left of everything does no harm; between a prefix
    and its text it would: there all rows must be of one length.
    """
    if not any(share.task.prompt.prefix for share in shares) or sees_everything(windows):
        return [list(shares)]
    alike: dict[tuple[int, int], list[Share]] = {}
    for share in shares:
        prompt = share.task.prompt
        alike.setdefault((len(prompt.ids), len(prompt)), []).append(share)
    return list(alike.values())


def chosen(logits: "Tensor", samples: Sequence["Sample"]) -> tuple[list[int], list[float]]:
    """The next token of each sample, and its log-probability in the model's own distribution where one wants it.

    Args:
        logits: [B, V].
        samples: B; those drawn alike are filtered together, for speed only.
    """
    import torch

    tokens = logits.argmax(-1)  # [B]
    drawn_ones = sorted((i for i, sample in enumerate(samples) if not sample.task.greedy), key=lambda i: samples[i].law)
    for (temperature, top_k, top_p), group in groupby(drawn_ones, key=lambda i: samples[i].law):
        alike = list(group)
        uniforms = np.array([samples[i].random.random() for i in alike])
        own = logits if len(alike) == len(samples) else logits[alike]
        tokens[alike] = drawn(filtered(own, temperature, top_k, top_p), uniforms)
    if not any(sample.task.request.logprobs for sample in samples):
        return tokens.tolist(), [0.0] * len(samples)
    picked = logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(logits, -1)
    return tokens.tolist(), picked.tolist()


@dataclass
class Sample:
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

    @property
    def grows(self) -> bool:
        """Whether it has not ended, and somebody waits for it."""
        return not self.finish and not self.share.abandoned

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


def _step(model: Any, context: Context, lines: Sequence[Sequence[Sample]]) -> "Tensor":
    """Run the model over the newest token of each sample; the logits of the next one, [B, V]."""
    import torch

    context.grow()
    samples = filled(lines)  # [R, S]
    logits: Tensor = model(
        input_ids=torch.tensor([[sample.tokens[-1] for sample in line] for line in samples], device=model.device),
        attention_mask=context.mask(model.dtype),
        position_ids=torch.tensor([[sample.position for sample in line] for line in samples], device=model.device),
        past_key_values=context.cache,
        use_cache=True,
    ).logits  # [R, S, V]
    return torch.cat([own[: len(line)] for own, line in zip(logits, lines, strict=True)]).float()


def filled(rows: Sequence[Sequence[T]]) -> list[list[T]]:
    """The rows, all as long as the longest: the shorter ones repeat their first."""
    width = max(map(len, rows))
    return [[*row, *[row[0]] * (width - len(row))] for row in rows]
