from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from eval.worlds import labels
from icl import Example
from icl.tiny import TINY
from templates import Template, load_template
from templates.errors import DataError, RunMismatch, Unsupported, UserError
from templates.soft import Base, Prefix, PrefixTuning, PromptTuning, PTuningV2, Training
from templates.soft.heads import Classifier, train_classifier
from templates.soft.heads.headed import Parts, as_read_first, headed
from templates.soft.rows import Row, as_batch
from tests.masked import examples
from tests.shapes import SMALL, make_pair
from tests.templates.soft.few import resumed

TEMPLATE = Template("{text} :{answer}")
LEARN = Training(steps=80, batch=16, warmup=5, evaluate_every=20)
FEW = Training(steps=6, batch=4, warmup=1, evaluate_every=2, keep_every=2, schedule="cosine")


@pytest.fixture(params=[AutoModel, AutoModelForMaskedLM])
def encoder(request: pytest.FixtureRequest, taught: Path) -> Any:
    return request.param.from_pretrained(taught)


@pytest.fixture
def tokenizer(taught: Path) -> Any:
    return AutoTokenizer.from_pretrained(taught)


def test_a_classifier_learns_behind_an_encoder(encoder: Any, tokenizer: Any, tmp_path: Path) -> None:
    """With an output layer or without: right on the dev set, no weight of the model moves; saved, it says the same."""
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    data = examples("topic")
    found = train_classifier(PTuningV2(4), encoder, tokenizer, data[::2], TEMPLATE, dev=data[1::2], training=LEARN)
    assert found.labels == ("one", "two")
    assert found.made["dev"]["score"] > 0.9
    assert all(torch.equal(before[name], weight) for name, weight in encoder.state_dict().items())
    assert all(weight.grad is None for weight in encoder.parameters())
    said = found.classify(encoder, tokenizer, data[1::2], TEMPLATE)
    assert np.mean([one == example.answer for one, example in zip(said, data[1::2], strict=True)]) == pytest.approx(
        found.made["dev"]["score"]
    )
    again = Classifier.load(found.save(tmp_path / "c"))
    ours, theirs = (one.logprobs(encoder, tokenizer, data[:9], TEMPLATE) for one in (found, again))
    assert ours.tobytes() == theirs.tobytes()
    assert again.made == found.made
    assert Prefix.load(tmp_path / "c") == found.prefix


def test_a_classifier_learns_behind_a_causal_model(tmp_path: Path) -> None:
    """The bundled model's labels mean nothing to it; read at the prompt's last token they are told apart."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY), AutoTokenizer.from_pretrained(TINY)
    data, judged = (list(labels.split(3, size, held_out=held)) for size, held in ((96, False), (48, True)))
    template, settings = load_template("labels.v1"), replace(LEARN, steps=100, evaluate_every=50)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = train_classifier(PTuningV2(4), model, tokenizer, data, template, dev=judged, training=settings)
    assert len(found.labels) == 4
    assert found.made["dev"]["score"] > 0.8
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert Classifier.load(found.save(tmp_path / "c")).classify(model, tokenizer, [], template) == []


@pytest.mark.parametrize("kind", ["bloom", "bert"])
def test_what_a_token_sees_is_found_out(kind: str) -> None:
    """Neither says of itself whether it is causal; what decides two labels stands in the first word, and is learnt."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    sizes = {"bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2}, "bert": SMALL}[kind]
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **sizes, initializer_range=0.3)
    model = AutoModel.from_config(config).train()
    assert headed(model, tokenizer, 0, 2).both_ways == (kind == "bert")
    assert all(module.training for module in model.modules())
    data = [Example(f"{i}", {"text": f"{'no' if i % 2 else 'yes'}{' and' * (i // 2)}"}, f"{i % 2}") for i in range(16)]
    settings = replace(LEARN, steps=40, batch=8)
    found = train_classifier(PTuningV2(2), model, tokenizer, data, TEMPLATE, dev=data, training=settings)
    assert found.made["dev"]["score"] == 1
    assert found.made["dev"]["loss"] < 0.1


@pytest.mark.parametrize("method", [PTuningV2(4), PrefixTuning(4, inner=8)], ids=str)
def test_resumed_is_uninterrupted(method: Any, taught: Path, tokenizer: Any, tmp_path: Path) -> None:
    """Stopped in its fourth step, started again: the same bits of prefix and head; another training is refused."""
    model, data = AutoModel.from_pretrained(taught), examples("topic")[::4]
    more: dict[str, Any] = {"dev": data[:6], "training": FEW}
    whole = train_classifier(method, model, tokenizer, data, TEMPLATE, **more)
    again = resumed(partial(train_classifier, method, model, tokenizer, data, TEMPLATE, **more), tmp_path)
    for part in ("weights", "bias"):
        assert getattr(again, part).tobytes() == getattr(whole, part).tobytes()
    assert again.prefix == whole.prefix
    assert again.made == whole.made
    with pytest.raises(RunMismatch, match="is of another training"):
        train_classifier(method, model, tokenizer, data, TEMPLATE, ("two", "one"), folder=tmp_path, **more)


def test_scores_are_those_of_a_whole_forward(encoder: Any, tokenizer: Any) -> None:
    """Three lengths in one batch, against each text alone as its tokenizer writes it, through transformers alone."""
    frozen = headed(encoder, tokenizer, 3, 2)
    random = torch.Generator().manual_seed(0)
    width = frozen.base.layers * 2 * frozen.base.kv_heads * frozen.base.head_size
    shapes = ((3, width), (2, frozen.base.hidden), (2,))
    parts = Parts(*(torch.randn(shape, generator=random) for shape in shapes))
    texts = ["a red cat", "a very very dull green film : is it good ?", "gold song , awful play"]
    asked = [replace(examples("topic")[0], fields={"text": text}) for text in texts]
    with frozen.held(), torch.no_grad():
        found = frozen.scores(frozen.batch([frozen.row_for(TEMPLATE, one, 0) for one in asked]), parts.joined)
        for text, ours in zip(texts, found, strict=True):
            ids = tokenizer(f"{text} :", return_tensors="pt").input_ids
            seen = torch.ones(1, 3 + ids.shape[1])
            cache = frozen.inner.cache(parts.prefix, 1)
            states = encoder.base_model(input_ids=ids, attention_mask=seen, past_key_values=cache).last_hidden_state
            assert torch.allclose(ours, parts.weights @ states[0, 0] + parts.bias, atol=1e-4)


def test_a_batch_that_is_read_first_by_hand() -> None:
    """Texts of three tokens and of one, with labels 1 and 0: read at places 0 and 3, filling is not seen."""
    rows = [Row((2, 5, 3, 1), (-1,) * 4, 1), Row((2, 0), (-1,) * 2, 1)]
    batch = as_read_first(as_batch(rows), [3, 1])
    assert batch.ids.tolist() == [[2, 5, 3], [2, 0, 0]]
    assert batch.seen is not None
    assert batch.seen.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.places.tolist() == [0, 3]
    assert batch.targets.tolist() == [1, 0]


def test_what_cannot_be_trained_is_refused(taught: Path, tokenizer: Any, tiny_model: Path, tmp_path: Path) -> None:
    """Soft tokens, one label, an unknown one, a text without room, an encoder with a decoder, what takes no prefix."""
    from transformers import AutoModelForSeq2SeqLM

    model, data = AutoModel.from_pretrained(taught), examples("topic")[:8]
    with pytest.raises(UserError, match=r"trained with keys and values .* got PromptTuning"):
        train_classifier(PromptTuning(4), model, tokenizer, data, TEMPLATE)
    with pytest.raises(UserError, match=r"two labels or more apart, each named once, got \['one'\]"):
        train_classifier(PTuningV2(4), model, tokenizer, data, TEMPLATE, ["one"])
    with pytest.raises(DataError, match=r"'topic/0' has the label 'one', and there are \['two', 'three'\]"):
        train_classifier(PTuningV2(4), model, tokenizer, data, TEMPLATE, ["two", "three"])
    long = [replace(one, fields={"text": "cat " * 70}) for one in data]
    with pytest.raises(DataError, match="there is room for 60 behind the prefix"):
        train_classifier(PTuningV2(4), model, tokenizer, long, TEMPLATE, ["one", "two"])
    pair = AutoModelForSeq2SeqLM.from_pretrained(make_pair("t5", tiny_model, tmp_path / "pair"))
    with pytest.raises(UserError, match="is an encoder with a decoder; train a prompt of label words"):
        train_classifier(PTuningV2(4), pair, tokenizer, data, TEMPLATE, ["one", "two"])
    distil = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    for kind, sizes in (("distilbert", distil), ("openai-gpt", {"n_embd": 32, "n_layer": 2, "n_head": 2})):
        model = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=200, **sizes))
        with pytest.raises(Unsupported, match=r"keys and values .* use PromptTuning or PTuning"):
            train_classifier(PTuningV2(4), model, tokenizer, data, TEMPLATE, ["one", "two"])


def test_numbers_are_its_own() -> None:
    """What is done to the arrays that it was made of changes nothing of it; its own are float32 and read-only."""
    weights, bias = np.ones((2, 2)), np.ones(2, np.float32)
    made = Classifier(
        Prefix(np.ones((1, 2)), Base("m", 1, hidden=2, kv_heads=1, head_size=1)), weights, bias, ("a", "b")
    )
    weights[:], bias[:] = np.nan, np.nan
    for its in (made.weights, made.bias):
        assert (its == 1).all()
        assert its.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            its[:] = 0


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    """Weights of another shape, numbers that are none, a folder without a head, or with one that numpy cannot read."""
    base = Base("m", 1, hidden=2, kv_heads=1, head_size=1)
    prefix = Prefix(np.ones((1, 2)), base)
    good = Classifier(prefix, np.ones((2, 2), np.float32), np.ones(2, np.float32), ("a", "b"))
    with pytest.raises(UserError, match=r"has weights \[2, 2\] and bias \[2\], got \[2, 3\] and \[2\]"):
        replace(good, weights=np.ones((2, 3), np.float32))
    with pytest.raises(UserError, match="holds finite numbers"):
        replace(good, bias=np.full(2, np.nan, np.float32))
    notes = good.save(tmp_path / "c") / "icl_classifier.json"
    whole = notes.read_text()
    notes.write_text('{"labels": "ab", "made": {}}')
    with pytest.raises(DataError, match=r"has labels 'ab' and made \{\}; a classifier's are a list of texts"):
        Classifier.load(tmp_path / "c")
    notes.write_text(whole)
    head = tmp_path / "c" / "head.safetensors"
    save_file({"weights": torch.ones(2, 2), "bias": torch.ones(2, dtype=torch.bfloat16)}, head)
    with pytest.raises(DataError, match=r"head\.safetensors cannot be read \(.*bfloat16.*\); save it again"):
        Classifier.load(tmp_path / "c")
    save_file({"weights": torch.ones(2, 2)}, head)
    with pytest.raises(DataError, match=r"is not a classifier's \(KeyError\('bias'\)\)"):
        Classifier.load(tmp_path / "c")
    head.unlink()
    with pytest.raises(DataError, match=r"head\.safetensors cannot be read"):
        Classifier.load(tmp_path / "c")
