"""AutoPrompt: trigger words that bring a model to say the right label, found by gradients.

Shin et al. 2020, arXiv:2010.15980, section 2.2. The words that stand for labels are in the template's verbalizer;
`labelwords` finds those.

Dimensions: P trigger tokens, H hidden, V vocabulary, C candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from templates.errors import UserError
from templates.soft.discrete.nearest import highest
from templates.soft.discrete.trigger import Asked, Slot, asked_of, log_likelihoods
from templates.soft.discrete.vocabulary import behind, triggers
from templates.soft.frozen import Frozen
from templates.soft.rows import Labelled, cut
from templates.template import Template

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class AutoPrompt:
    """How triggers are searched.

    Args:
        tokens: P, before the text; a template with soft slots says itself how many, and where.
        steps: swaps that are tried, of a token each.
        candidates: C, tokens that are tried in a step; 10 or 100 in the paper.
        batch: examples for a step's gradient, and others for its candidates.
        rows: that run at once.
        start: the words to begin with, again and again; masks in the paper, which no text can say.
        seed: of batches and places.
    """

    tokens: int = 3
    steps: int = 100
    candidates: int = 10
    batch: int = 24
    rows: int = 256
    start: str = "the"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse nothing to search."""
        for name in ("tokens", "steps", "candidates", "batch", "rows"):
            if getattr(self, name) < 1:
                raise UserError(f"AutoPrompt needs {name} ≥ 1, got {getattr(self, name)}")
        if not self.start.strip():
            raise UserError(f"a search begins with some words, such as start='the', got {self.start!r}")


@dataclass(frozen=True)
class Trigger:
    """What was found.

    Args:
        tokens: the trigger's token ids, in the order of the soft slots.
        template: the template with the trigger's words in its slots: plain text.
        score: mean log-probability of the right label, over the dev examples, or those of the search without any.
        begun: the same of the words to begin with.
        faithful: whether the template's text is cut into just these tokens, in every example; where it is not, the text
            is worth something else than `score`.
    """

    tokens: tuple[int, ...]
    template: Template
    score: float
    begun: float
    faithful: bool


def flips(gradient: Array, table: Array, allowed: Array, k: int) -> npt.NDArray[np.intp]:
    """The k tokens with which the loss should fall most: those with the highest -e_w · ∇, best first, [k].

    To first order the loss changes by (e_w - e_now) · ∇ when w takes a place, and the second part is the same for all
    w (equation 2; HotFlip, Ebrahimi et al. 2018, arXiv:1712.06751).

    Args:
        gradient: [H], of the loss by the embedding in the place.
        table: [V, H], the tokens' embeddings.
        allowed: [V], which tokens may be taken.
        k: how many, at the most as many as are allowed.
    """
    gain = np.where(allowed, -(table @ gradient), -np.inf)
    best: npt.NDArray[np.intp] = highest(gain[None], min(k, int(allowed.sum())))[0]
    return best


def find_trigger(
    search: AutoPrompt,
    frozen: Frozen,
    template: Template,
    examples: Sequence[Labelled],
    dev: Sequence[Labelled] = (),
) -> Trigger:
    """Search a trigger: a step swaps one of its tokens, if a candidate is better than what stands there.

    Args:
        search: how.
        frozen: the model, causal or masked.
        template: with soft slots where the trigger is to stand; without any it stands in front.
        examples: at least two: gradients are taken on some, candidates compared on others.
        dev: examples on which the triggers of the way are compared; without any, all of `examples`.
    Returns:
        The best trigger; nothing that it began with is better on the dev examples.
    Raises:
        UserError: too few examples.
        DataError: an example that cannot be learnt from, or has no room; names it.
    """
    if len(examples) < 2:  # noqa: PLR2004 - one for the gradient, one to compare
        raise UserError(f"a trigger is searched on at least 2 examples, got {len(examples)}")
    slot = Slot.of(template, frozen, search.tokens)
    [begin] = behind(frozen.tokenizer, [f" {search.start}"])
    now = tuple(begin[place % len(begin)] for place in range(slot.tokens))
    with frozen.held():
        known, judges = asked_of(frozen, slot, examples), asked_of(frozen, slot, dev or examples)
        table = _table(frozen)
        words = [word for its in template.verbalizer.words.values() for word in its] if template.verbalizer else []
        allowed = triggers(frozen.tokenizer, len(table), words)

        def judged(tokens: tuple[int, ...]) -> float:
            return float(_scores(frozen, judges, [tokens], search.rows)[0])

        best, score = now, judged(now)
        begun = score
        for step in range(search.steps):
            random = Random(f"{search.seed}/{step}")
            place, first, second = _drawn(random, known, search.batch, slot.tokens)
            ranked = flips(_gradient(frozen, first, now)[place], table, allowed, search.candidates * 2)
            swapped = [_swapped(now, place, int(token)) for token in ranked if int(token) != now[place]]
            loose = not slot.faithful(frozen, now, second)
            tried = [new for new in swapped if loose or slot.faithful(frozen, new, second)][: search.candidates]
            scores = _scores(frozen, second, [now, *tried], search.rows)
            chosen = [now, *tried][int(scores.argmax())]
            if chosen != now and (value := judged(chosen)) > score:
                best, score = chosen, value
            now = chosen
    return Trigger(
        tokens=best,
        template=slot.spelt(frozen.tokenizer, best),
        score=score,
        begun=begun,
        faithful=slot.faithful(frozen, best, known, every=True),
    )


def _drawn(
    random: Random, known: Sequence[Asked], batch: int, tokens: int
) -> tuple[int, Sequence[Asked], Sequence[Asked]]:
    """A place, examples for its gradient, and others to compare candidates on."""
    size = min(batch, len(known) // 2)
    some = random.sample(list(known), size * 2)
    return random.randrange(tokens), some[:size], some[size:]


def _swapped(tokens: tuple[int, ...], place: int, token: int) -> tuple[int, ...]:
    return (*tokens[:place], token, *tokens[place + 1 :])


def _gradient(frozen: Frozen, asked: Sequence[Asked], tokens: tuple[int, ...]) -> Array:
    """Of the mean loss, by each of the trigger's embeddings, [P, H]."""
    prompt = _embedded(frozen, tokens).requires_grad_()
    loss = -log_likelihoods(frozen, asked, prompt, 1).mean()
    [gradient] = torch.autograd.grad(loss, prompt)
    return gradient.float().cpu().numpy()


def _scores(frozen: Frozen, asked: Sequence[Asked], tried: Sequence[tuple[int, ...]], rows: int) -> Array:
    """Mean log-probability of the right label with each trigger, [C]; as many rows as may run at once do."""
    found = np.zeros(len(tried))
    with torch.no_grad():
        for its in cut(asked, max(1, rows // max(len(one.rows) for one in asked))):
            together = max(1, rows // sum(len(one.rows) for one in its))
            sums = []
            for some in cut(tried, together):
                prompts = torch.cat([_embedded(frozen, tokens) for tokens in some])
                sums.append(log_likelihoods(frozen, its, prompts, len(some)).sum(1).cpu().numpy())
            found += np.concatenate(sums)
    return found / len(asked)


def _embedded(frozen: Frozen, tokens: Sequence[int]) -> Tensor:
    with torch.no_grad():
        found: Tensor = frozen.model.get_input_embeddings()(torch.tensor(list(tokens), device=frozen.device))
    return found.detach()


def _table(frozen: Frozen) -> Array:
    """The embeddings of all tokens as the model sees them, [V, H]: some models scale them on the way."""
    return _embedded(frozen, range(len(frozen.embeddings))).float().cpu().numpy()
