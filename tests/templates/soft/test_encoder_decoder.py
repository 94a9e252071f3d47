from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

from icl import Example
from templates import Template, Verbalizer
from templates.errors import DataError, UserError
from templates.soft import Method, PrefixTuning, PromptTuning, PTuning, SoftPrompt, Training, base_of, train
from templates.soft.baselines import Full, LinearProbe, LoRA, finetune, probe
from templates.soft.encoder_decoder import EncoderDecoder
from templates.soft.families import frozen_of
from templates.soft.rows import Row
from tests.shapes import PAIRS, make_pair

ROWS = [Row((40, 41, 42, 43, 1, 50, 51), (-1,) * 7, 2), Row((60, 1, 30), (-1,) * 3, 1)]
ROWS += [Row((33, 44, 1, 66, 77, 88, 20), (-1,) * 7, 4)]
SAME = {"pens": "yes", "cats": "no", "cups": "yes", "dogs": "no"}
OTHER = {"yes": "no", "no": "yes"}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model of each kind."""
    return make_pair(request.param, tiny_model, tmp_path_factory.mktemp("pairs") / request.param)


@pytest.fixture(scope="module")
def t5(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pair("t5", tiny_model, tmp_path_factory.mktemp("pairs") / "t5")


@pytest.fixture
def frozen(pair: Path) -> Iterator[EncoderDecoder]:
    found = frozen_of(AutoModelForSeq2SeqLM.from_pretrained(pair), AutoTokenizer.from_pretrained(pair))
    assert isinstance(found, EncoderDecoder)
    with found.held():
        yield found


def with_soft(row: Row, place: int) -> Row:
    """The row with four soft tokens from `place` of the encoder's text on."""
    soft = (*row.soft[:place], *range(4), *row.soft[place:])
    return Row((*row.tokens[:place], *[0] * 4, *row.tokens[place:]), soft, row.answer)


def plain(model: Any, row: Row, prompt: Tensor) -> Tensor:
    """The loss by transformers alone: one row, without padding, every logit, labels shifted by the model itself."""
    asked, said = row.tokens[: -row.answer], row.tokens[-row.answer :]
    embedded = model.get_input_embeddings()(torch.tensor([asked]))
    for place, number in enumerate(row.soft):
        if number >= 0:
            embedded = torch.cat([embedded[:, :place], prompt[None, None, number], embedded[:, place + 1 :]], 1)
    return torch.as_tensor(model(inputs_embeds=embedded, labels=torch.tensor([said])).loss * row.answer)


@pytest.mark.parametrize("place", [0, 1])
def test_loss_and_gradient_are_those_of_transformers(
    frozen: EncoderDecoder, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of three lengths on both sides in one batch, two answer tokens' logits at a time; and each row's own."""
    monkeypatch.setattr("templates.soft.losses._LOGITS", 2 * len(frozen.embeddings))
    start = torch.tensor(np.random.default_rng(0).normal(size=(4, 32)), dtype=torch.float32)
    prompt, same = start.clone().requires_grad_(), start.clone().requires_grad_()
    rows = [with_soft(row, place) for row in ROWS]
    loss, expected = frozen.loss(frozen.batch(rows), prompt), [plain(frozen.model, row, same) for row in rows]
    assert loss.item() == pytest.approx(sum(expected).item(), abs=1e-4)  # type: ignore[union-attr]
    torch.autograd.backward([loss, *expected])
    assert torch.allclose(torch.as_tensor(prompt.grad), torch.as_tensor(same.grad), atol=1e-4, rtol=1e-4)
    assert all(weight.grad is None for weight in frozen.model.parameters())
    with torch.no_grad():
        for chances, one in zip(frozen.logprobs(frozen.batch(rows), start), expected, strict=True):
            assert -chances[0].sum().item() == pytest.approx(one.item(), abs=1e-4)


def test_gradients_of_all_weights_are_those_of_transformers(pair: Path) -> None:
    """Full fine-tuning, embeddings of both sides and the output layer too; recomputed or not."""
    model = AutoModelForSeq2SeqLM.from_pretrained(pair).eval()
    frozen, weights = frozen_of(model, None), list(model.parameters())
    for row in ROWS:
        plain(model, row, torch.zeros(0)).backward()  # type: ignore[no-untyped-call]
    expected = [None if weight.grad is None else weight.grad.clone() for weight in weights]
    for recompute in (False, True):
        model.zero_grad()
        with frozen.held(recompute=recompute, learning=weights):
            frozen.loss(frozen.batch(ROWS), None).backward()  # type: ignore[no-untyped-call]
        for weight, gradient in zip(weights, expected, strict=True):
            wanted = torch.zeros_like(weight) if gradient is None else gradient
            got = torch.zeros_like(weight) if weight.grad is None else weight.grad
            assert torch.allclose(got, wanted, atol=1e-5 * max(1.0, wanted.abs().max().item()), rtol=0)


def test_rows_are_what_both_sides_see(t5: Path) -> None:
    """Soft tokens in their slots, the text's end behind all of it, the answer without its space, then its end."""
    tokenizer = AutoTokenizer.from_pretrained(t5)
    frozen = EncoderDecoder(AutoModelForSeq2SeqLM.from_pretrained(t5), tokenizer)
    prompt = SoftPrompt(np.zeros((3, 32)), frozen.base)
    slots = Template("{soft:2}Q: {q}{soft:1} {answer}", soft=prompt)
    row = frozen.row(slots, Example("x", {"q": "pens"}), "cats", 100, end=True)
    asked, said = (tokenizer.encode(text, add_special_tokens=False) for text in ("Q: pens", "cats"))
    assert row == Row(
        (0, 0, *asked, 0, 1, *said, 1), (0, 1, *[-1] * len(asked), 2, *[-1] * (len(said) + 2)), 1 + len(said)
    )
    front = replace(slots, text="Q: {q} {answer}")
    assert frozen.row(front, Example("x", {"q": "pens"}), "cats", 100, end=False).tokens == (0, 0, 0, *asked, 1, *said)
    batch = frozen.batch([row, Row((7, 1, 9), (-1,) * 3, 1)])
    assert batch.said.tolist() == [[2, *said], [2, *[2] * len(said)]]
    assert batch.seen is not None
    assert batch.seen.sum(1).tolist() == [len(asked) + 4, 2]
    with pytest.raises(
        DataError, match=r"'x' has \d+ tokens of prompt and \d+ of answer, and there is room for 4 each"
    ):
        frozen.row(front, Example("x", {"q": "pens"}), "cats", 4, end=True)


def test_positions_end_where_the_model_says(pair: Path) -> None:
    """Relative ones nowhere, unless `n_positions` is there; BART's are counted."""
    frozen = frozen_of(AutoModelForSeq2SeqLM.from_pretrained(pair), None)
    assert frozen.context == (1024 if "bart" in pair.name else 2**31)
    frozen.model.config.n_positions = 512
    assert frozen.context == (1024 if "bart" in pair.name else 512)
    base = base_of("x", AutoConfig.from_pretrained(pair))
    assert (base.hidden, base.layers, base.heads, base.head_size, base.task) == (32, 2, 2, 16, "SEQ_2_SEQ_LM")


@pytest.fixture(scope="module")
def taught(t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 that answers yes or no, and the other way round where it is told "other" before the question."""
    told = {
        f"{kind} {word}": answer if kind == "same" else OTHER[answer]
        for word, answer in SAME.items()
        for kind in ("same", "other")
    }
    known = [Example(text, {"q": text}, answer) for text, answer in told.items()]
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(t5), AutoTokenizer.from_pretrained(t5)
    settings = Training(steps=350, rate=3e-3)
    tuned = finetune(Full(), model, tokenizer, known * 2, Template("{q} {answer}"), dev=known, training=settings)
    assert tuned.made["dev"]["score"] == 1.0
    return tuned.save(tmp_path_factory.mktemp("taught") / "t5")


@pytest.mark.parametrize("text", ["{q} {answer}", "{q}{soft:3} {answer}"], ids=["front", "behind"])
@pytest.mark.parametrize("method", [PromptTuning(4), PTuning(4)], ids=str)
def test_a_prompt_learns_to_say_what_words_said(method: Method, text: str, taught: Path) -> None:
    """Vectors stand for "other"; the model's bytes are equal before and after, none of its weights has a gradient."""
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    examples = [Example(word, {"q": word}, OTHER[answer]) for word, answer in SAME.items()]
    for verbalizer in (None, Verbalizer({"yes": ["yes"], "no": ["no"]})):
        template = Template(text, verbalizer=verbalizer)
        found = train(method, model, tokenizer, examples, template, dev=examples, training=Training(steps=300))
        assert found.made["dev"]["score"] == 1.0
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert found.made["weights"] == found.vectors.size
    assert found.base.task == "SEQ_2_SEQ_LM"


def test_baselines_are_for_pairs_too(taught: Path, tmp_path: Path) -> None:
    """An adapter turns the answers round, and PEFT loads it; a probe reads the decoder's first state."""
    peft = pytest.importorskip("peft")
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught)
    examples = [Example(word, {"q": word}, OTHER[answer]) for word, answer in SAME.items()]
    template = Template("{q} {answer}", verbalizer=Verbalizer({"yes": ["yes"], "no": ["no"]}))
    probed = probe(LinearProbe(), model, tokenizer, examples, template, dev=examples)
    assert probed.classify(model, tokenizer, examples, template) == ["no", "yes", "no", "yes"]
    tuned = finetune(LoRA(), model, tokenizer, examples, template, dev=examples, training=Training(steps=60))
    assert tuned.made["dev"]["score"] == 1.0
    tuned.save(tmp_path / "out")
    theirs = peft.PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(taught), tmp_path / "out").eval()
    sides = {"input_ids": torch.tensor([[40, 41, 1]]), "decoder_input_ids": torch.tensor([[2, 50]])}
    with torch.no_grad():
        assert torch.allclose(theirs(**sides).logits, tuned.model(**sides).logits, atol=1e-4)


def logits(model: Any, prompt: SoftPrompt, ids: Tensor, said: Tensor) -> Tensor:
    """What the prompt in front means, by transformers alone."""
    embedded = torch.cat([torch.tensor(prompt.vectors)[None], model.get_input_embeddings()(ids)], 1)
    with torch.no_grad():
        return torch.as_tensor(model(inputs_embeds=embedded, decoder_input_ids=said).logits)


def test_peft_and_we_load_each_others(t5: Path, tmp_path: Path) -> None:
    """Logits agree to 1e-4, in both directions; of PEFT's rows for the decoder, which it never uses, none is taken."""
    peft = pytest.importorskip("peft")
    model = AutoModelForSeq2SeqLM.from_pretrained(t5).eval()
    ids, said = torch.tensor([[40, 41, 42, 1]]), torch.tensor([[2, 50, 51]])
    sides = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": said}
    vectors = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    ours = SoftPrompt(vectors, base_of(str(t5), model.config))
    ours.save(tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(t5), tmp_path / "ours").eval()
    with torch.no_grad():
        assert torch.allclose(theirs(**sides).logits, logits(model, ours, ids, said), atol=1e-4)
    assert SoftPrompt.load(tmp_path / "ours") == ours
    assert SoftPrompt.load(tmp_path / "ours").base == ours.base
    for config in (
        peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=4),
        peft.PromptEncoderConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=4, encoder_hidden_size=16),
    ):
        made = peft.get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(t5), config).eval()
        made.save_pretrained(tmp_path / "theirs")
        loaded = SoftPrompt.load(tmp_path / "theirs")
        assert len(loaded) == 4
        with torch.no_grad():
            assert torch.allclose(made(**sides).logits, logits(model, loaded, ids, said), atol=1e-4)
        loaded.base.check(ours.base)


def test_what_a_pair_cannot_take_is_refused(t5: Path) -> None:
    """Keys and values, and a decoder that does not say what it starts with."""
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(t5), AutoTokenizer.from_pretrained(t5)
    examples = [Example("x", {"q": "pens"}, "yes")]
    with pytest.raises(
        UserError, match=r"PrefixTuning trains a Prefix, which .*t5' \(t5\) cannot take here; train Soft"
    ):
        train(PrefixTuning(), model, tokenizer, examples, Template("{q} {answer}"))
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    with pytest.raises(UserError, match=r"set model\.config\.decoder_start_token_id"):
        train(PromptTuning(2), model, tokenizer, examples, Template("{q} {answer}"))
