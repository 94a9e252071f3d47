from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from icl import Example
from templates import Template, Verbalizer
from templates.errors import DataError, UserError
from templates.soft.discrete.autoprompt import AutoPrompt, _embedded, _gradient, find_trigger, flips
from templates.soft.discrete.scoring import label_scores
from templates.soft.discrete.trigger import Slot, asked_of, behind, log_likelihoods
from templates.soft.discrete.vocabulary import triggers, words
from templates.soft.families import frozen_of
from templates.soft.frozen import Frozen
from templates.soft.rows import Row
from tests.masked import examples

TOPIC = Template("{soft:1} {text} : {answer}", verbalizer=Verbalizer({"one": ["one"], "two": ["two"]}))


@pytest.fixture
def frozen(taught: Path) -> Iterator[Frozen]:
    """Each architecture of masked models, held."""
    frozen = frozen_of(AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught))
    with frozen.held():
        yield frozen


@pytest.fixture
def causal(tiny_model: Path) -> Iterator[Frozen]:
    """A causal model, held."""
    frozen = frozen_of(AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model))
    with frozen.held():
        yield frozen


def test_flips_by_hand() -> None:
    """∇ = (1, -2): -e·∇ is -1, 2, 5, -3 for the four tokens; the third is best, then the second; a banned one never."""
    table = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0], [1.0, -1.0]])
    gradient, everything = np.array([1.0, -2.0]), np.ones(4, dtype=bool)
    assert flips(gradient, table, everything, 2).tolist() == [2, 1]
    assert flips(gradient, table, np.array([True, True, False, False]), 9).tolist() == [1, 0]


def test_a_trigger_stands_behind_what_begins_a_text() -> None:
    """Two soft tokens before [CLS] (2) come behind it; others stay."""
    assert behind(Row((0, 0, 2, 7, 8), (0, 1, -1, -1, -1), 1), 1) == Row((2, 0, 0, 7, 8), (-1, 0, 1, -1, -1), 1)
    between = Row((2, 7, 0, 8), (-1, -1, 0, -1), 1)
    assert behind(between, 1) == between


def test_the_score_is_that_of_the_text(frozen: Frozen, causal: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three triggers in one pass, words of a label summed: each as its text alone, scored as any template is."""
    scored_as_text(frozen, " " if frozen.model.config.model_type == "bert" else "")
    scored_as_text(causal, "")
    monkeypatch.setattr("templates.soft.rows._AHEAD", 0)  # so that what all rows begin with runs by itself
    scored_as_text(causal, "")


def scored_as_text(model: Frozen, between: str) -> None:
    """A label has a word of two tokens beside one of one; the trigger stands in two places."""
    verbalizer = Verbalizer({"one": ["one", "seven eight"], "two": ["two"]})
    template = replace(TOPIC, text=f"{{soft:1}} {{text}}{between}{{soft:1}} : {{answer}}", verbalizer=verbalizer)
    some = examples("topic")[:5]
    slot = Slot.of(template, model, 9)
    tried = [model.tokenizer.encode(f" {words}", add_special_tokens=False)[:2] for words in ("a is", "it was", "the a")]
    with torch.no_grad():
        prompts = torch.cat([_embedded(model, tokens) for tokens in tried])
        found = log_likelihoods(model, asked_of(model, slot, some), prompts, 3)
    for tokens, its in zip(tried, found.tolist(), strict=True):
        assert slot.faithful(model, tokens, asked_of(model, slot, some), every=True)
        plain = slot.spelt(model.tokenizer, tokens)
        scores = label_scores(model, [(plain, example) for example in some], ["one", "two"])
        right = [row[["one", "two"].index(example.answer or "")] for row, example in zip(scores, some, strict=True)]
        assert its == pytest.approx(right, abs=1e-4)


def test_text_that_is_cut_otherwise_is_told(taught: Path) -> None:
    """BERT's words are set apart by spaces: a trigger right behind a word becomes part of it; not so behind a colon."""
    frozen = frozen_of(AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught))
    if frozen.model.config.model_type != "bert":
        return
    trigger = frozen.tokenizer.encode("it", add_special_tokens=False)
    for text, faithful in (("{text}{soft:1} {answer}", False), ("{text} :{soft:1} {answer}", True)):
        slot = Slot.of(replace(TOPIC, text=text), frozen, 1)
        assert slot.faithful(frozen, trigger, asked_of(frozen, slot, examples("topic"))) == faithful


def test_the_gradient_is_that_of_the_mean_loss(frozen: Frozen) -> None:
    """Against small steps either way, along one direction."""
    slot, some = Slot.of(TOPIC, frozen, 1), examples("topic")[::7]
    asked, tokens = asked_of(frozen, slot, some), (30,)
    direction = np.random.default_rng(0).normal(size=frozen.base.hidden).astype(np.float32)

    def loss(step: float) -> float:
        with torch.no_grad():
            moved = _embedded(frozen, tokens) + step * torch.tensor(direction)
            return -log_likelihoods(frozen, asked, moved, 1).mean().item()

    slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
    assert float(_gradient(frozen, asked, tokens)[0] @ direction) == pytest.approx(slope, rel=0.05, abs=1e-3)


@pytest.mark.parametrize("cue", ["topic", "review"])
def test_the_planted_word_is_found(taught: Path, cue: str) -> None:
    """BERT's tokenizer has the word that asks for the task as one token, and of all tokens it is found.

    RoBERTa's has it in pieces; what is found there brings the right label near to certainty too.
    """
    frozen = frozen_of(AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught))
    before = {name: weight.clone() for name, weight in frozen.model.state_dict().items()}
    asked = ["one", "two"] if cue == "topic" else ["good", "bad"]
    template = Template("{text} : {answer}", verbalizer=Verbalizer({word: [word] for word in asked}))
    bert = frozen.model.config.model_type == "bert"
    search = AutoPrompt(tokens=1 if bert else 2, steps=12, candidates=20)
    found = find_trigger(search, frozen, template, examples(cue))
    if bert:
        assert found.template.text == f"{cue} {{text}} : {{answer}}"
    assert found.faithful
    assert found.begun < -0.3
    assert found.score > -0.1
    assert found.template.soft is None
    scores = label_scores(frozen, [(found.template, example) for example in examples(cue)], asked)
    own = [row[asked.index(example.answer or "")] for row, example in zip(scores, examples(cue), strict=True)]
    assert float(np.mean(own)) == pytest.approx(found.score, abs=1e-4)
    assert all(torch.equal(before[name], weight) for name, weight in frozen.model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in frozen.model.parameters())
    assert find_trigger(search, frozen, template, examples(cue)) == found


def test_a_step_is_three_forward_passes(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient, all candidates at once, and what was chosen on the dev examples; first what one begins with."""
    calls, hidden = list[int](), Frozen.hidden

    def counted(its: Frozen, batch: Any, prompt: torch.Tensor) -> torch.Tensor:
        calls.append(len(batch.ids))
        return hidden(its, batch, prompt)

    monkeypatch.setattr(Frozen, "hidden", counted)
    find_trigger(AutoPrompt(steps=1, candidates=20, batch=10, rows=1000), frozen, TOPIC, examples("topic")[:30])
    assert calls[:2] == [30, 10]
    assert 0 < calls[2] <= 210
    assert calls[3:] in ([], [30])
    calls.clear()
    find_trigger(AutoPrompt(steps=1, candidates=20, batch=10, rows=8), frozen, TOPIC, examples("topic")[:30])
    assert calls[:4] == [8, 8, 8, 6]
    assert max(calls[5:]) <= 8, "all but the gradient's run so many at once"


def test_a_causal_model_finds_a_trigger(causal: Frozen) -> None:
    """A random Llama says the right word more often with the trigger than with what the search began with."""
    some = [Example(str(n), {"text": f"{n} and {n}"}, "yes") for n in range(6)]
    template = Template("Q: {text}{soft:2}\nA: {answer}")
    found = find_trigger(AutoPrompt(steps=8, candidates=8, batch=3), causal, template, some)
    assert found.score > found.begun
    assert found.faithful
    assert found.template.prompt({"text": "1"}).startswith("Q: 1")


def test_what_is_written_as_braces_stays_text(causal: Frozen) -> None:
    """A trigger with a brace in it is a template's literal brace."""
    slot = Slot.of(Template("{soft:1} {text} {answer}"), causal, 1)
    [brace] = causal.tokenizer.encode("{", add_special_tokens=False)
    plain = slot.spelt(causal.tokenizer, [brace])
    assert plain.text == "{{ {text} {answer}"
    assert plain.prompt({"text": "a"}) == "{ a"


def test_words_and_trigger_tokens(frozen: Frozen) -> None:
    """No special token and no label's word is in a trigger; pieces of words are no words."""
    tokenizer, size = frozen.tokenizer, len(frozen.embeddings)
    allowed, whole = triggers(tokenizer, size, ["film"]), words(tokenizer, size, " ")
    [film], [song] = (tokenizer.encode(f" {word}", add_special_tokens=False) for word in ("film", "song"))
    assert not allowed[tokenizer.all_special_ids].any()
    assert not whole[tokenizer.all_special_ids].any()
    assert (bool(allowed[film]), bool(allowed[song]), bool(whole[film])) == (False, True, True)
    [piece] = [tokenizer.convert_tokens_to_ids("##x" if "##x" in tokenizer.get_vocab() else "x")]
    assert not whole[piece]


def test_what_cannot_be_searched_is_refused(frozen: Frozen) -> None:
    """One example, no steps, an unknown label."""
    with pytest.raises(UserError, match="at least 2 examples, got 1"):
        find_trigger(AutoPrompt(), frozen, TOPIC, examples("topic")[:1])
    with pytest.raises(UserError, match="steps ≥ 1, got 0"):
        AutoPrompt(steps=0)
    with pytest.raises(DataError, match="has the label 'good'"):
        find_trigger(AutoPrompt(steps=1), frozen, TOPIC, examples("review"))
