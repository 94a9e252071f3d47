from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from icl import Example
from templates import Template, Verbalizer
from templates.errors import DataError, Unsupported, UserError
from templates.soft import Base, Method, Prefix, PrefixTuning, PromptTuning, PTuning, SoftPrompt, Training, train
from templates.soft.families import frozen_of
from templates.soft.frozen import Frozen
from templates.soft.masked import Masked, as_masked
from templates.soft.rows import Row
from templates.tokens import affixes
from tests.masked import examples

TEMPLATE = Template("{text} : {answer}", verbalizer=Verbalizer({"one": ["one"], "two": ["two"]}))
METHODS: list[Method] = [PromptTuning(4), PTuning(4), PrefixTuning(4), PrefixTuning(4, inner=0)]
LEARN = Training(steps=100, batch=16, warmup=5, evaluate_every=25)
PLACES = ("nowhere", "front", "slots", "keys and values")
ASKED = [
    Example("short", {"text": "a red cat"}, "one"),
    Example("long", {"text": "a very very dull green film : is it good ?"}, "one two"),
    Example("middle", {"text": "gold song , awful play"}, "seven eight nine"),
]


@pytest.fixture
def frozen(taught: Path) -> Iterator[Frozen]:
    """Each architecture, held."""
    model = AutoModelForMaskedLM.from_pretrained(taught)
    frozen = frozen_of(model, AutoTokenizer.from_pretrained(taught))
    with frozen.held():
        yield frozen


def setting(frozen: Frozen, place: str) -> tuple[Template, Tensor]:
    """A template with a prompt of three tokens in a place, and the prompt."""
    base = frozen.base
    plain = Template("{soft:2}{text}{soft:1} it was {answer}" if place == "slots" else "{text} it was {answer}")
    if place == "nowhere":
        return plain, torch.zeros(0, 0)
    width = base.layers * 2 * base.kv_heads * base.head_size if place == "keys and values" else base.hidden
    vectors = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    if place == "keys and values":
        return plain, torch.tensor(vectors)
    return replace(plain, soft=SoftPrompt(vectors, base)), torch.tensor(vectors)


def expected(frozen: Frozen, example: Example, place: str, prompt: Tensor) -> Tensor:
    """Log-probabilities of the answer at its masks, spelt out: one row, every logit, transformers alone."""
    tokenizer, model = frozen.tokenizer, frozen.model
    said = tokenizer.encode(f" {example.answer}", add_special_tokens=False)
    begin, end, mask = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id
    embed = model.get_input_embeddings()

    def words(text: str) -> Tensor:
        return torch.as_tensor(embed(torch.tensor(tokenizer.encode(text, add_special_tokens=False))))

    text, around = example.fields["text"], [embed(torch.tensor([token])) for token in (begin, mask, end)]
    asked = [words(text), words(" it was")] if place == "slots" else [words(f"{text} it was")]
    tail = [around[1]] * len(said) + [around[2]]
    more: dict[str, Any] = {}
    if place == "slots":
        parts = [prompt[:2], around[0], asked[0], prompt[2:], asked[1], *tail]
    elif place == "front":
        parts = [prompt, around[0], *asked, *tail]
    else:
        parts = [around[0], *asked, *tail]
    row = torch.cat(parts)[None]
    if place == "keys and values":
        first = 3 + (2 if model.config.model_type == "roberta" else 0)  # behind the prefix, and RoBERTa's padding
        more = {
            "past_key_values": frozen.cache(prompt, 1),
            "position_ids": torch.arange(first, first + row.shape[1])[None],
        }
    logits = model(inputs_embeds=row, **more).logits[0, -len(said) - 1 : -1]
    return torch.as_tensor(logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None])[:, 0])


@pytest.mark.parametrize("place", PLACES)
def test_loss_is_that_of_a_whole_forward(frozen: Frozen, place: str) -> None:
    """Three lengths, answers of one, two and more tokens in one batch, against each row alone with every logit."""
    template, prompt = setting(frozen, place)
    batch = frozen.batch([frozen.row(template, one, one.answer or "", frozen.context, end=True) for one in ASKED])
    ours, theirs = prompt.clone().requires_grad_(), prompt.clone().requires_grad_()
    alone = [expected(frozen, example, place, theirs) for example in ASKED]
    loss = frozen.loss(batch, ours)
    assert loss.item() == pytest.approx(-torch.cat(alone).sum().item(), abs=1e-4)
    for found, its in zip(frozen.logprobs(batch, prompt), alone, strict=True):
        assert torch.allclose(found[0], its, atol=1e-4)
    if len(prompt):
        torch.autograd.backward([loss, -torch.cat(alone).sum()])
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-3)
    assert all(weight.grad is None for weight in frozen.model.parameters())


def test_without_a_prompt_it_is_the_model_on_token_ids(frozen: Frozen) -> None:
    """The text with its mask, as a tokenizer of the model's kind writes it."""
    template, nothing = setting(frozen, "nowhere")
    [found] = frozen.logprobs(frozen.batch([frozen.row(template, ASKED[0], "one", 60, end=True)]), nothing)
    text = f"a red cat it was{frozen.tokenizer.mask_token}"
    ids = frozen.tokenizer(text, return_tensors="pt").input_ids
    logits = frozen.model(input_ids=ids).logits[ids == frozen.tokenizer.mask_token_id]
    said = frozen.tokenizer.encode(" one", add_special_tokens=False)
    assert found[0].item() == pytest.approx(logits.log_softmax(-1)[0, said[0]].item(), abs=1e-5)


def test_positions_behind_a_prefix_are_those_of_transformers(frozen: Frozen) -> None:
    """For token ids transformers shifts them itself, by the length of the prefix; P-tuning v2's own code relies on it.

    So its loss with ids and the cache alone is ours.
    """
    template, prompt = setting(frozen, "keys and values")
    batch = frozen.batch([frozen.row(template, ASKED[0], "one", 60, end=True)])
    seen = torch.ones(1, 3 + batch.ids.shape[1])
    cache = frozen.cache(prompt, 1)
    logits = frozen.model(input_ids=batch.ids, attention_mask=seen, past_key_values=cache).logits[0, batch.places]
    theirs = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum")
    assert frozen.loss(batch, prompt).item() == pytest.approx(theirs.item(), abs=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_prompts_learn_which_task_is_asked(method: Method, taught: Path) -> None:
    """Two labels: chance is a loss of ln 2 = 0.69, and every prompt is well below it; no weight of the model moves."""
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    data = examples("topic")
    found = train(method, model, tokenizer, data[::2], TEMPLATE, dev=data[1::2], training=LEARN)
    assert found.made["dev"]["loss"] < 0.3
    assert found.made["dev"]["score"] > 0.9
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert isinstance(found, method.kind)


def test_free_answers_and_slots(taught: Path) -> None:
    """Without a verbalizer the score says how many answers are the most likely ones at all of their masks."""
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught)
    template, data = Template("{soft:3} {text} : {answer}"), examples("review")
    found = train(PromptTuning(), model, tokenizer, data[::2], template, dev=data[1::2], training=LEARN)
    assert found.made["dev"]["score"] > 0.9


@pytest.mark.parametrize("kind", [SoftPrompt, Prefix])
def test_peft_loads_and_is_loaded(kind: type[Any], taught: Path, tmp_path: Path, frozen: Frozen) -> None:
    """PEFT's logits are ours, to 1e-4; it has no task for masks, and FEATURE_EXTRACTION leaves the model as it is."""
    peft = pytest.importorskip("peft")
    place = "front" if kind is SoftPrompt else "keys and values"
    template, vectors = setting(frozen, place)
    prompt = kind(vectors.numpy(), frozen.base, {"method": "by hand"})
    prompt.save(tmp_path / "p")
    theirs = peft.PeftModel.from_pretrained(AutoModelForMaskedLM.from_pretrained(taught), tmp_path / "p").eval()
    batch = frozen.batch([frozen.row(replace(template, soft=None), one, "one", 60, end=True) for one in ASKED])
    placed = frozen.batch([frozen.row(template, one, "one", 60, end=True) for one in ASKED])
    assert batch.seen is not None
    padded = batch.ids.where(batch.seen > 0, torch.tensor(frozen.tokenizer.pad_token_id))
    with torch.no_grad():
        logits = theirs(input_ids=padded, attention_mask=batch.seen).logits[:, -padded.shape[1] :].flatten(0, 1)
        ours = frozen.logits(frozen.hidden(placed, vectors))
    assert torch.allclose(logits[batch.places], ours, atol=1e-4)
    assert kind.load(tmp_path / "p").base == frozen.base
    theirs.save_pretrained(tmp_path / "theirs")
    again = kind.load(tmp_path / "theirs")
    assert again == prompt
    assert again.base.task == "FEATURE_EXTRACTION"


def test_a_batch_of_masks_by_hand() -> None:
    """Two rows, answers of two tokens and one: prompt, masks (9), the end of a text (3), filling on the right."""
    batch = as_masked([Row((2, 5, 6, 7), (-1, 0, -1, -1), 2), Row((2, 8), (-1, -1), 1)], 9, [3])
    assert batch.ids.tolist() == [[2, 5, 9, 9, 3], [2, 9, 3, 0, 0]]
    assert batch.seen is not None
    assert batch.soft is not None
    assert batch.seen.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.soft.tolist() == [[-1, 0, -1, -1, -1], [-1, -1, -1, -1, -1]]
    assert batch.places.tolist() == [2, 3, 6]
    assert batch.targets.tolist() == [6, 7, 8]
    assert batch.answers == [2, 1]


def test_the_context_is_used_to_its_end(frozen: Frozen) -> None:
    """64 positions; RoBERTa has a table of 66 and begins at 2. A row of 64 tokens runs, one of 65 is refused."""
    assert frozen.context == 64
    assert isinstance(frozen, Masked)
    begins, ends = frozen.special
    assert (len(begins), len(ends)) == (1, 1)
    template, nothing = setting(frozen, "nowhere")

    def long(words: int) -> Example:
        return Example("long", {"text": "red" + " cat" * words}, "one")

    empty = frozen.row(template, long(0), "one", 64, end=True)
    words = 64 - frozen.batch([empty]).ids.shape[1]
    full = frozen.row(template, long(words), "one", 64, end=True)
    assert frozen.batch([full]).ids.shape == (1, 64)
    assert torch.isfinite(frozen.loss(frozen.batch([full]), nothing))
    with pytest.raises(DataError, match="there is room for 63"):
        frozen.row(template, long(words + 1), "one", 64, end=True)


def test_kinds_of_models_are_told_apart(taught: Path, tiny_model: Path) -> None:
    """Masked, causal, and neither: an encoder alone says no words."""
    assert type(frozen_of(AutoModelForMaskedLM.from_pretrained(taught), None)) is Masked
    assert type(frozen_of(AutoModelForCausalLM.from_pretrained(tiny_model), None)) is Frozen
    with pytest.raises(UserError, match=r"is a (Bert|Roberta)Model; load it with AutoModelForCausalLM, "):
        frozen_of(AutoModel.from_pretrained(taught), None)


def test_what_a_masked_model_cannot_do_is_said(tiny_model: Path) -> None:
    """A tokenizer without a mask; keys and values for a model that takes none."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(
        "distilbert", vocab_size=50, dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=64
    )
    distil = AutoModelForMaskedLM.from_config(config)
    frozen = Masked(distil, AutoTokenizer.from_pretrained(tiny_model))
    with pytest.raises(UserError, match="has no mask token"):
        _ = frozen.mask
    with pytest.raises(Unsupported, match="DistilBertForMaskedLM takes no keys and values"):
        frozen.check_cache()


def test_special_tokens_before_and_after(taught: Path, tiny_model: Path) -> None:
    """[CLS] and [SEP]; a causal model's begin of text alone."""
    tokenizer = AutoTokenizer.from_pretrained(taught)
    assert affixes(tokenizer) == ([tokenizer.cls_token_id], [tokenizer.sep_token_id])
    assert affixes(AutoTokenizer.from_pretrained(tiny_model)) == ([0], [])


def test_old_notes_are_of_causal_models() -> None:
    """Prompts that were saved before there were kinds."""
    assert Base("m", 2).task == "CAUSAL_LM"
