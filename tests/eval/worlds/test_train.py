from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from eval.worlds import labels, sums
from eval.worlds.documents import FIRST, KINDS, SHARES, THEN, document, few_shot
from eval.worlds.train import CONTEXT, Phase, Recipe, batch, make_model, make_tokenizer, train
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
    assert said.tokens <= 3
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


@pytest.mark.parametrize("kind", KINDS)
def test_no_held_out_question_is_learnt(kind: str) -> None:
    """By their texts: nothing of the first thousand held-out questions is in a hundred documents of each kind."""
    held = {e.question for e in (*sums.split(0, 1000, held_out=True), *labels.split(0, 1000, held_out=True))}
    random = Random(0)
    for _ in range(100):
        pieces = KINDS[kind](random)
        told = "".join(asked + said for asked, said in (next(pieces) for _ in range(10)))
        assert not [question for question in held if question in told]


def test_a_held_out_question_would_be_seen() -> None:
    """The test above looks for texts that are there when held-out examples are worded as documents are."""
    for template, examples in (("math.cot.v1", sums), ("labels.v1", labels)):
        held = examples.split(0, 20, held_out=True)
        told = "".join(asked + said for asked, said in few_shot(load_template(template), iter(held)))
        assert all(example.question in told for example in held)


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
