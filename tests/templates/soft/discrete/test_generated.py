from itertools import product
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from icl import Example
from templates import Template, Verbalizer
from templates.errors import UserError
from templates.soft.discrete.generated import Filler, generate

SPOKEN = ["it", "was", "so", "cat", "dog", "good", "bad"]
SPECIAL = ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>", "<extra_id_2>", "<extra_id_3>"]
SOME = [Example("a", {"text": "cat so"}, "good"), Example("b", {"text": "dog"}, "bad")]


@pytest.fixture(scope="module")
def filler() -> Filler:
    """A tiny random T5 with a tokenizer of seven words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *SPOKEN])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - a token of another kind
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        additional_special_tokens=SPECIAL[3:],
    )
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(fast),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        initializer_factor=3.0,
        dropout_rate=0.1,
    )
    return Filler(T5ForConditionalGeneration(config), fast, rows=5)


def score(filler: Filler, texts: list[str], written: str) -> float:
    """Of what is written, summed over the texts: one text after another, by transformers alone."""
    total, model, tokenizer = 0.0, filler.model.eval(), filler.tokenizer
    for text in texts:
        labels = torch.tensor([tokenizer.encode(written, add_special_tokens=False)])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokenizer.encode(text)]), labels=labels).logits[0].log_softmax(-1)
        total += sum(float(logits[place, token]) for place, token in enumerate(labels[0]) if place)
    return total


def test_a_wide_beam_is_an_exhaustive_search(filler: Filler) -> None:
    """All 57 ways to fill one gap with up to two of seven words, each scored alone: the same order, the same scores."""
    found = generate(filler, SOME, "{text} {fill} {answer}", width=500, length=3, keep=100)
    texts = ["cat so <extra_id_0> good", "dog <extra_id_0> bad"]
    ways = [words for size in range(3) for words in product(SPOKEN, repeat=size)]
    expected = {
        f"{{text}} {' '.join((*words, '{answer}'))}": score(
            filler, texts, " ".join(("<extra_id_0>", *words, "<extra_id_1>"))
        )
        for words in ways
    }
    assert len(found) == len(ways) == 57
    assert [one.template.text for one in found] == sorted(expected, key=lambda text: -expected[text])
    assert [one.score for one in found] == pytest.approx([expected[one.template.text] for one in found], abs=1e-4)


def test_two_gaps_with_one_after_the_answer(filler: Filler) -> None:
    """What is written behind the answer is told apart; labels are shown by their words; spaces fit."""
    verbalizer = Verbalizer({"p": ["good"], "n": ["bad"]})
    labelled = [Example("a", {"text": "cat so"}, "p"), Example("b", {"text": "dog"}, "n")]
    found = generate(
        filler, labelled, "{text} {fill} {answer} {fill}", verbalizer=verbalizer, width=500, length=4, keep=5
    )
    texts = ["cat so <extra_id_0> good <extra_id_1>", "dog <extra_id_0> bad <extra_id_1>"]
    for one in found:
        middle = one.template.text.removeprefix("{text}").removesuffix("{answer}").strip()
        written = " ".join(f"<extra_id_0> {middle} <extra_id_1> {one.after} <extra_id_2>".split())
        assert one.score == pytest.approx(score(filler, texts, written), abs=1e-4)
        assert isinstance(one.template, Template)
        assert one.template.verbalizer == verbalizer
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_examples_and_hypotheses_run_together(filler: Filler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two examples, three hypotheses, room for six rows: one call a step, and one for the encoder."""
    calls: list[int] = []
    forward = filler.model.forward

    def counted(**given: Any) -> Any:
        calls.append(len(given["decoder_input_ids"]))
        return forward(**given)

    monkeypatch.setattr(filler.model, "forward", counted)
    wide = Filler(filler.model, filler.tokenizer, rows=6)
    generate(wide, SOME, "{text} {fill} {answer}", width=3, length=4, keep=50)
    assert len(calls) == 4
    assert max(calls) <= 6


def test_the_taught_words_are_written(filler: Filler) -> None:
    """A model that was taught to write "it was" between writes it, with a narrow beam; its mode stays as it was."""
    model, tokenizer = filler.model, filler.tokenizer
    texts = [f"{animal} {more} <extra_id_0> {word}" for animal in ("cat", "dog") for more in ("so", "cat", "dog")
             for word in ("good", "bad")]  # fmt: skip
    labels = torch.tensor([tokenizer.encode("<extra_id_0> it was <extra_id_1>", add_special_tokens=False)] * len(texts))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(input_ids=torch.tensor([tokenizer.encode(text) for text in texts]), labels=labels).loss
        loss.backward()
        optimizer.step()
    best = generate(filler, SOME, "{text} {fill} {answer}", width=5, length=6, keep=2)[0]
    assert best.template.text == "{text} it was {answer}"
    assert best.template.demo({"text": "cat"}, "good") == "cat it was good"
    assert model.training
    model.load_state_dict(before)


def test_what_cannot_be_generated_is_refused(filler: Filler) -> None:
    """No gap, too many, no answer in the layout, no examples, one without an answer, sentinels that are not there."""
    with pytest.raises(UserError, match=r"has 1 to 3 gaps '\{fill\}', got 0"):
        generate(filler, SOME, "{text} {answer}")
    with pytest.raises(UserError, match="got 4"):
        generate(filler, SOME, "{fill}{fill}{fill}{fill} {answer}")
    with pytest.raises(UserError, match="has its answer in it once"):
        generate(filler, SOME, "{text} {fill}")
    for wrong in ([], [Example("a", {"text": "cat"}, None)]):
        with pytest.raises(UserError, match="from examples with answers"):
            generate(filler, wrong, "{text} {fill} {answer}")
    with pytest.raises(UserError, match=r"the tokenizer has no \['<gap_0>', '<gap_1>'\]"):
        generate(Filler(filler.model, filler.tokenizer, ("<gap_0>", "<gap_1>")), SOME, "{text} {fill} {answer}")
