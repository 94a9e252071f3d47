from pathlib import Path
from random import Random

import pytest

from examples.sums import split
from examples.train_tiny import Recipe, document, make_tokenizer, speak, train
from icl.backends import Transformers
from icl.example import Example
from icl.lm import Request
from icl.loading import load_examples
from templates import load_template
from templates.errors import UserError

COT = load_template("math.cot.v1")
QUICK = Recipe(hidden=16, layers=1, tokens=160, batch=4, steps=12, short=2, rate=1e-2)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return load_examples(split(seed=0, held_out=0, train=200)[1])


async def test_training_lowers_the_loss_and_the_model_serves(examples: list[Example], tmp_path: Path) -> None:
    """A dozen steps lower the loss, and what is written is a model that the transformers backend runs."""
    losses: list[float] = []
    folder = train(examples, tmp_path / "model", QUICK, losses.append)
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.2
    lm = Transformers(str(folder), dtype="float32")
    completion = (await lm.generate(Request(COT.prompt(examples[0].fields), max_tokens=4)))[0]
    assert completion.tokens == 4
    await lm.aclose()


def test_training_belongs_to_the_seed(examples: list[Example], tmp_path: Path) -> None:
    """The same seed gives the same losses, another seed gives others."""

    def losses(name: str, seed: int) -> list[float]:
        found: list[float] = []
        train(
            examples, tmp_path / name, Recipe(hidden=16, layers=1, tokens=64, steps=3, short=0, seed=seed), found.append
        )
        return found

    first = losses("a", 0)
    assert losses("b", 0) == first
    assert losses("c", 1) != first
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}  # nothing half written lies about


def test_documents_are_the_prompts_that_pipelines_write(examples: list[Example]) -> None:
    """A document begins, token for token, as the few-shot prompt of its examples, and teaches their answers alone."""
    tokenizer = make_tokenizer([COT.demo(e.shown, e.answer or "") + COT.separator for e in examples])
    one = examples[0]
    prompt = COT.render(one.fields, [(one.shown, one.answer or "")] * 2)
    tokens, labels = document(speak(tokenizer, COT, [one]), tokenizer.encode("Q:"), 150, Random(0))
    expected = tokenizer.encode(prompt)
    assert tokens[: len(expected)] == expected
    taught = tokenizer.decode([label for label in labels[: len(expected)] if label >= 0])
    assert taught == f" {one.rationale} The answer is {one.answer}.\n\nQ:" * 2


def test_text_survives_the_tokenizer(examples: list[Example]) -> None:
    """Text comes back byte for byte, and a number is one token for each digit."""
    text = COT.render(examples[0].fields, [(examples[1].shown, examples[1].answer or "")])
    tokenizer = make_tokenizer([COT.demo(e.shown, e.answer or "") + COT.separator for e in examples])
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    assert tokenizer.tokenize(" The answer is 12.") == [" The", " answer", " is", " 1", "2", "."]


def test_documents_without_answers_are_refused() -> None:
    """A document too short for any answer is refused, also where only the first steps have such."""
    with pytest.raises(UserError, match="needs 40 tokens, got 32"):
        Recipe(tokens=128)
    assert Recipe(tokens=128, short=0).tokens == 128
