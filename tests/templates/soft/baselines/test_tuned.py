import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from icl.tiny import TINY
from templates import Template
from templates.errors import DataError, Diverged, RunMismatch, UserError
from templates.soft import Training
from templates.soft.baselines import IA3, Baseline, BitFit, Full, LoRA, finetune, read_notes
from templates.soft.baselines.adapters import merged
from templates.soft.baselines.tuned import Weights
from templates.soft.frozen import Frozen
from templates.soft.rows import Row, as_batch, rows_of
from templates.soft.run import Run
from tests.shapes import SHAPES
from tests.templates.soft.few import resumed, some

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS: list[Baseline] = [LoRA(4), IA3(), BitFit(), Full()]
FEW = Training(steps=6, batch=4, warmup=1, evaluate_every=2, keep_every=2)
ROWS = [Row((0, 40, 41, 42, 50, 51), (-1,) * 6, 2), Row((0, 60, 30, 31), (-1,) * 4, 3), Row((0, 7, 8, 9), (-1,) * 4, 1)]


def bundled() -> Any:
    """A new one each time: these methods change it."""
    return AutoModelForCausalLM.from_pretrained(TINY)


def needs(method: Baseline) -> None:
    """LoRA and IA3 run on an extra."""
    if isinstance(method, (LoRA, IA3)):
        pytest.importorskip("peft")


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradients_are_those_of_transformers(kind: str, *, tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight's, embeddings and output layer too, against `model(input_ids, labels=…)`, row by row.

    Two answer tokens' logits at a time, with layers that keep their activations and layers that do not.
    """
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = AutoConfig.for_model(kind, vocab_size=100, **SHAPES[kind], **ends, tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config).eval()
    frozen, weights = Frozen(model, None), list(model.parameters())
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    monkeypatch.setattr("templates.soft.losses._LOGITS", 2 * len(frozen.embeddings))
    for row in ROWS:
        asked = [-100] * (len(row.tokens) - row.answer)
        tokens = torch.tensor([row.tokens])
        loss = model(input_ids=tokens, labels=torch.tensor([[*asked, *row.tokens[-row.answer :]]])).loss
        (loss * row.answer).backward()
    expected = [torch.as_tensor(weight.grad).clone() for weight in weights]
    for recompute in (False, True):
        model.zero_grad()
        with frozen.held(recompute=recompute, learning=weights):
            frozen.loss(as_batch(ROWS), None).backward()  # type: ignore[no-untyped-call]
        for weight, gradient in zip(weights, expected, strict=True):
            assert torch.allclose(torch.as_tensor(weight.grad), gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_what_is_saved_says_what_was_trained(
    method: Baseline, tokenizer: Any, template: Template, tmp_path: Path
) -> None:
    """The loss falls; the model from disk has it; only what learns has changed; the notes say how much that is."""
    needs(method)
    before = bundled()
    first = loss_of(before, tokenizer, template)
    found = finetune(method, bundled(), tokenizer, some(16), template, training=replace(FEW, steps=20))
    found.save(tmp_path / "out")
    notes = read_notes(tmp_path / "out")
    folder = notes.model_in(tmp_path / "out")
    assert folder is not None
    after = AutoModelForCausalLM.from_pretrained(folder)
    last = loss_of(after, AutoTokenizer.from_pretrained(folder), template)
    assert last < first - 0.1
    assert last == pytest.approx(loss_of(found.model, tokenizer, template), abs=1e-5)
    changed = {name for name, weight in after.named_parameters() if not torch.equal(weight, before.get_parameter(name))}
    own: dict[type, Callable[[str], bool]] = {
        LoRA: lambda name: name.endswith("proj.weight"),
        IA3: lambda name: name.rpartition(".")[0].endswith(("k_proj", "v_proj", "down_proj")),
        BitFit: lambda name: name.endswith("bias"),
        Full: lambda _: True,
    }
    assert changed == {name for name, _ in after.named_parameters() if own[type(method)](name)}
    assert notes.made["share"] == notes.made["weights"] / 920192
    assert notes.made["weights"] == {LoRA: 38912, IA3: 2048, BitFit: 1536, Full: 920192}[type(method)]
    assert (notes.made["method"], notes.base.name) == (type(method).__name__, TINY)


def loss_of(model: Any, tokenizer: Any, template: Template) -> float:
    """Of the sixteen examples."""
    frozen = Frozen(model, tokenizer)
    with frozen.held(), torch.no_grad():
        batch = as_batch(rows_of(frozen, template, some(16), 1024))
        return frozen.loss(batch, None).item() / len(batch.targets)


@pytest.mark.parametrize("method", [LoRA(4), IA3()], ids=str)
def test_peft_loads_the_adapter(method: Baseline, tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """PEFT's model with our folder says what the merged one says."""
    peft = pytest.importorskip("peft")
    finetune(method, bundled(), tokenizer, some(8), template, training=FEW).save(tmp_path / "out")
    theirs = peft.PeftModel.from_pretrained(bundled(), tmp_path / "out").eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "merged")
    tokens = torch.tensor([[0, 40, 41, 42, 50]])
    with torch.no_grad():
        assert torch.allclose(theirs(input_ids=tokens).logits, merged(tokens).logits, atol=1e-4)
        assert not torch.allclose(merged(tokens).logits, bundled()(tokens).logits, atol=1e-3)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == TINY


@pytest.mark.parametrize("method", [LoRA(2), IA3()], ids=str)
def test_adapters_go_into_each_architecture(method: Baseline, shape: Path) -> None:
    """Whichever way its layers lie; merged, they say what they said beside the weights."""
    needs(method)
    model, ids = AutoModelForCausalLM.from_pretrained(shape).eval(), torch.tensor([[0, 40, 41, 42]])
    begun = method.begin(model, 0)
    with torch.no_grad():
        for weight in begun.weights:
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) / 8)
        beside = model(ids).logits
        merged(begun.adapter)
        assert torch.allclose(model(ids).logits, beside, atol=1e-4)
        assert not torch.allclose(AutoModelForCausalLM.from_pretrained(shape).eval()(ids).logits, beside, atol=1e-2)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_it_begins_with_what_the_model_says(method: Baseline, tokenizer: Any, template: Template) -> None:
    """New weights change nothing at first; those that are drawn come from the seed alone."""
    needs(method)
    model = bundled()
    first = loss_of(model, tokenizer, template)
    drawn = method.begin(model, 7).weights
    assert loss_of(model, tokenizer, template) == pytest.approx(first, abs=1e-5)
    again = method.begin(bundled(), 7).weights
    assert all(torch.equal(one, other) for one, other in zip(drawn, again, strict=True))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_resumed_is_uninterrupted(method: Baseline, tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """Stopped in its fourth step, started again with the model loaded anew: the same bits, and the same notes."""
    needs(method)
    data: dict[str, Any] = {"dev": some(6, held_out=True), "training": FEW}
    whole = finetune(method, bundled(), tokenizer, some(16), template, **data)
    again = resumed(
        lambda folder: finetune(method, bundled(), tokenizer, some(16), template, folder=folder, **data), tmp_path
    )
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight), name
    assert again.made == whole.made
    with pytest.raises(RunMismatch, match="is of another training"):
        finetune(method, bundled(), tokenizer, some(15), template, folder=tmp_path, **data)


def test_the_best_on_the_dev_set_comes_back(tokenizer: Any, template: Template) -> None:
    """Steps that are far too large: the weights are those of the step that the notes name, and not the last ones."""
    settings = replace(FEW, steps=12, rate=0.05, evaluate_every=1, patience=3, schedule="constant")
    data = (tokenizer, some(8), template)
    found = finetune(Full(), bundled(), *data, dev=some(6, held_out=True), training=settings)
    steps = found.made["steps"]
    assert steps < 9
    until = finetune(Full(), bundled(), *data, training=replace(settings, steps=steps))
    for name, weight in until.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], weight), name
    assert all(weight.grad is None for weight in found.model.parameters())


def test_a_loss_that_is_no_number_stops(tokenizer: Any, template: Template) -> None:
    """It says what to lower."""
    model = bundled()
    with torch.no_grad():
        model.get_input_embeddings().weight[:] = float("nan")
    with pytest.raises(Diverged, match=r"at step 1 the loss or its gradient is nan; lower the learning rate"):
        finetune(Full(), model, tokenizer, some(8), template, training=FEW)


def test_accumulated_batches_are_one_large_batch(tokenizer: Any, template: Template) -> None:
    """Two batches of four rows a step weigh every answer token as one batch of eight does."""

    def gradient(batch: int, accumulate: int) -> torch.Tensor:
        frozen = Frozen(bundled(), tokenizer)
        weights = list(frozen.model.parameters())
        rows = rows_of(frozen, template, some(8), 1024)
        settings = replace(FEW, batch=batch, accumulate=accumulate, clip=0.0)
        run = Run(frozen, Weights(weights), settings, 1e-3, rows, None)
        with frozen.held(learning=weights):
            run.step()
        return torch.as_tensor(weights[0].grad)

    assert torch.allclose(gradient(8, 1), gradient(4, 2), atol=1e-6)


def test_what_cannot_be_trained_is_refused(
    tokenizer: Any, template: Template, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No biases, 16 bits, soft slots, nothing to learn, no PEFT, layers that PEFT does not know."""
    biasless = AutoModelForCausalLM.from_pretrained(tiny_model)
    with pytest.raises(UserError, match=r"bias terms, and .*tiny' \(llama\) has none; take lora or ia3"):
        finetune(BitFit(), biasless, AutoTokenizer.from_pretrained(tiny_model), some(8), template)
    narrow = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.bfloat16)
    with pytest.raises(UserError, match=r"are torch.bfloat16: small steps are lost.*--dtype float32"):
        finetune(Full(), narrow, tokenizer, some(8), template)
    with pytest.raises(UserError, match="has a soft prompt or slots for one, and BitFit trains none"):
        finetune(BitFit(), bundled(), tokenizer, some(8), Template("{soft:3}{text} {answer}"))
    with pytest.raises(UserError, match="no examples to train on"):
        finetune(BitFit(), bundled(), tokenizer, [], template)
    with pytest.raises(UserError, match="rank ≥ 1 and alpha > 0, got 0"):
        LoRA(0)
    with pytest.raises(UserError, match=r"PEFT cannot put the adapter.*name the layers with targets"):
        finetune(LoRA(targets=("nowhere",)), bundled(), tokenizer, some(8), template)
    with pytest.raises(DataError, match=r"icl_tuned.json cannot be read"):
        read_notes(tiny_model)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"not installed: pip install 'icl-toolkit\[peft\]'"):
        finetune(LoRA(), bundled(), tokenizer, some(8), template)
