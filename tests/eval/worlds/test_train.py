import math
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from eval.worlds import labels, sums
from eval.worlds.documents import FIRST, KINDS, SHARES, THEN, document
from eval.worlds.model import make_model, make_tokenizer
from eval.worlds.recipe import CONTEXT, Phase, Recipe
from eval.worlds.train import batch, loss_of, train
from icl import Request
from icl.backends import Transformers
from templates import load_template
from templates.errors import UserError

SMALL = Recipe(hidden=32, layers=1, heads=2, kv_heads=1, inner=32, phases=(Phase(3, 2, 64), Phase(3, 1, 128)), warmup=2)


class Stopped(Exception):
    """In the middle of a training."""


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the fourth of six steps and started again: the same weights, to the last bit."""
    monkeypatch.setattr("eval.worlds.train._KEPT_EVERY", 2)

    def stop(done: int, _: float) -> None:
        if done == 5:
            raise Stopped

    whole = train(tmp_path / "whole", SMALL)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", SMALL, on_step=stop)
    seen: list[int] = []
    parts = train(tmp_path / "parts", SMALL, on_step=lambda done, _: seen.append(done))
    assert seen == [5, 6]
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"checkpoint\.pt is of another recipe"):
        train(tmp_path / "parts", replace(SMALL, seed=1))


async def test_what_is_written_runs(tmp_path: Path) -> None:
    """Half-precision weights, which load in float32."""
    model = train(tmp_path, SMALL)
    (said,) = await Transformers(str(model)).generate(Request("Q: Ada has 3 eggs.\nA:", max_tokens=3))
    assert 1 <= said.tokens <= 3
    assert {weight.dtype for weight in load_file(model / "model.safetensors").values()} == {torch.float16}
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(model, dtype="auto").dtype == torch.float32


def test_the_tokenizer_loses_nothing_and_keeps_digits_apart() -> None:
    """Any text comes back; no token holds two digits; a word of the worlds is one token."""
    tokenizer = make_tokenizer(SMALL)
    for text in ("Q: Ada has 12 eggs.\nA:", "  Tab\there 12,345 \n\n\n émile 数", "blick => £5.00"):
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    assert not [token for token in tokenizer.get_vocab() if sum(map(str.isdigit, token)) > 1]
    for word in (*labels.WORDS, *sums.THINGS):
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1


TOPIC_OF = {word: topic for topic, words in labels.TOPICS.items() for word in words}


def held_out_in(kind: str, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each question that documents of this kind tell, whether it is held out.

    A sum is caught when it is put into words; a line is read for the three words that share a topic.
    """
    found: list[bool] = []
    story, sum_held_out, line_held_out = sums.story, sums.Sum.held_out, labels.is_held_out

    def watched(one: sums.Sum, random: Random) -> str:
        found.append(bool(sum_held_out.__get__(one)))
        return story(one, random)

    monkeypatch.setattr(sums, "story", watched)
    for number in range(40):
        pieces = KINDS[kind](Random(f"{number}/{kind}"))
        for asked, _ in (next(pieces) for _ in range(25)):
            told: dict[str, list[str]] = {}
            for word in asked.replace(",", "").split():
                told.setdefault(TOPIC_OF.get(word, ""), []).append(word)
            told.pop("", None)
            found += [line_held_out(words) for words in told.values() if len(words) == 3 and kind == "labels"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_held_out_question_is_learnt(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand pieces of each kind of document, and not one question of the other side in them."""
    found = held_out_in(kind, monkeypatch)
    assert not any(found)
    assert bool(found) == (kind not in {"echo", "pairs"})


@pytest.mark.parametrize("kind", ["cot", "direct", "zero-shot", "labels"])
def test_a_held_out_question_would_be_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents made of the other side: the test above would see every question of theirs."""
    endless, inputs = sums.endless, labels.inputs
    monkeypatch.setattr(sums, "endless", lambda random, *, held_out: endless(random, held_out=not held_out))
    monkeypatch.setattr(
        labels, "inputs", lambda random, *, told, **_: inputs(random, held_out=told.words == 3, told=told)
    )
    found = held_out_in(kind, monkeypatch)
    assert found
    assert all(found)


def test_no_text_of_the_held_out_questions_is_learnt() -> None:
    """The five hundred questions of each task that figures are made of, against what real steps of the recipe read."""
    held = {e.question for e in (*sums.split(0, 500, held_out=True), *labels.split(0, 500, held_out=True))}
    tokenizer, recipe = make_tokenizer(Recipe()), Recipe()
    for step in (0, 2000, 5000, 12_000, 18_000, 19_000):
        for tokens in batch(tokenizer, recipe, step)[0].tolist():
            told = tokenizer.decode(tokens)
            assert not [question for question in held if question in told]


def test_the_splits_are_those_that_the_bundled_model_was_trained_with() -> None:
    """A change of what is held out would make its figures worthless: then it is to be trained again."""
    digests = [
        blake2b("\n".join(example.question for example in examples).encode(), digest_size=8).hexdigest()
        for examples in (sums.split(0, 500, held_out=True), labels.split(0, 500, held_out=True))
    ]
    assert digests == ["e64933c73c70e515", "885dc46a3a7ebebe"]


def test_tokens_teach_what_they_are_meant_to() -> None:
    """Worked by hand: of "<s> a b" each next token is as likely as any of four; b teaches 1, a a twentieth."""

    class Even:
        def __call__(self, *, input_ids: torch.Tensor, use_cache: bool) -> Any:
            del use_cache
            logits = torch.zeros(*input_ids.shape, 4)
            logits[0, 1, 3] = 1.0  # after a the model leans to 3, which is b
            return SimpleNamespace(logits=logits)

    loss = loss_of(Even(), torch.tensor([[0, 2, 3]]), torch.tensor([[0.0, 0.05, 1.0]]))
    a, b = math.log(4), math.log(3 + math.e) - 1
    assert loss.item() == pytest.approx((0.05 * a + 1.0 * b) / 1.05)


def test_questions_teach_a_little_and_answers_in_full() -> None:
    """Token by token of a document of labels: the label word alone counts in full."""
    tokenizer = make_tokenizer(SMALL)
    tokens, teaches = document(tokenizer, Random(5), 60, {"labels": 1.0})
    taught = list(zip(tokenizer.convert_ids_to_tokens(tokens), teaches, strict=True))
    labelled = {word.removeprefix("Ġ") for word, weight in taught if weight == 1.0}
    assert labelled
    assert labelled <= set(labels.WORDS)
    assert teaches[0] == 0.0
    assert set(teaches) == {0.0, 0.05, 1.0}


def test_prompts_are_learnt_as_they_are_asked() -> None:
    """A document of demonstrations begins as the toolkit's own prompt does."""
    pieces = KINDS["cot"](Random(0))
    examples = sums.endless(Random(0), held_out=False)
    template = load_template("math.cot.v1")
    told = [(e.shown, e.answer or "") for e in (next(examples) for _ in range(3))]
    query = next(examples)
    wanted = template.render(query.fields, told)
    got = "".join(asked + said for asked, said in (next(pieces) for _ in range(3))) + next(pieces)[0]
    assert got == wanted


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    """So that a training can go on where it was stopped; only answers teach in full."""
    tokenizer = make_tokenizer(SMALL)
    tokens, teaches = batch(tokenizer, SMALL, 4)
    again, _ = batch(tokenizer, SMALL, 4)
    assert tokens.shape == teaches.shape == (1, 128)
    assert tokens.equal(again)
    assert not tokens.equal(batch(tokenizer, SMALL, 5)[0])
    assert {round(value, 2) for value in teaches.flatten().tolist()} <= {0.0, 0.05, 1.0}


def test_documents_are_as_long_as_they_should_be() -> None:
    """Cut at the length, up to the context."""
    tokenizer = make_tokenizer(SMALL)
    for seed in range(10):
        tokens, teaches = document(tokenizer, Random(seed), CONTEXT)
        assert len(tokens) == len(teaches) == CONTEXT
    for shares in (SHARES, FIRST, THEN):
        assert sum(shares.values()) == pytest.approx(1)
        assert shares.keys() <= KINDS.keys()


def test_a_word_s_follower_stays_its_own() -> None:
    """Within a document of pairs a word has one label, so that what stood there before tells it."""
    pieces = KINDS["pairs"](Random(3))
    found: dict[str, str] = {}
    for asked, said in (next(pieces) for _ in range(50)):
        assert found.setdefault(asked.strip(), said) == said
    assert len(found) > 1


def test_attention_begins_near_and_with_what_is_alike() -> None:
    """In the lower layer half of it goes to the last few tokens; in the upper one the same word gets most."""
    recipe = replace(SMALL, hidden=64, layers=2)
    model = make_model(300, recipe)
    model.set_attn_implementation("eager")
    torch.manual_seed(0)
    half = torch.randint(3, 300, (1, 32))
    lower, upper = model(torch.cat([half, half], 1), output_attentions=True).attentions  # [1, heads, T, T]
    near = torch.ones(64, 64).tril().triu(-4)
    assert (lower[0].mean(0) * near)[8:].sum(-1).mean() > 0.5
    same = upper[0].mean(0).diagonal(-32).mean()
    others = torch.stack([upper[0].mean(0).diagonal(-gap).mean() for gap in (24, 28, 36, 40)]).mean()
    assert same > 2 * others


def test_recipes_end() -> None:
    """Phases follow each other; the rate rises, then falls to a hundredth."""
    assert [SMALL.phase(step).tokens for step in range(6)] == [64, 64, 64, 128, 128, 128]
    assert SMALL.rate_at(0) == pytest.approx(SMALL.rate / 2)
    assert Recipe().rate_at(Recipe().steps) == pytest.approx(Recipe().rate / 100)
    with pytest.raises(UserError, match="6 steps, so there is no step 6"):
        SMALL.phase(6)
