from dataclasses import replace
from functools import partial
from math import e
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from icl import Example
from templates import Template, Verbalizer
from templates.errors import DataError, RunMismatch, Unsupported, UserError
from templates.soft import SoftPrompt, Training, base_of, train
from templates.soft.frozen import Frozen
from templates.soft.gated import GatedPrompt, LlamaAdapter, applied, train_adapter
from templates.soft.gated.attention import attentions, gated
from templates.soft.rows import as_batch, rows_of
from tests.shapes import GROUPED
from tests.templates.soft.few import resumed, some

FEW = Training(steps=6, batch=4, warmup=1, evaluate_every=2, keep_every=2, schedule="cosine")
METHODS = [LlamaAdapter(4), LlamaAdapter(4, layers=1, per_head=True), LlamaAdapter(3, init="text", text="a label")]


@pytest.fixture(params=["llama", "mistral", "qwen2", "qwen3"])
def any_model(request: pytest.FixtureRequest) -> Any:
    """A tiny random model of each kind that is known, drawn wide."""
    torch.manual_seed(1)
    own = {"sliding_window": 64} if request.param == "mistral" else {}
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(request.param, vocab_size=100, **GROUPED, **own)
    ).eval()


def drawn(model: Any, layers: int = 1, *, gates: int = 1, gate: float = 0.7) -> GatedPrompt:
    """An adapter of random prompts, three tokens each."""
    base = base_of(model.name_or_path, model.config)
    random = np.random.default_rng(0)
    return GatedPrompt(random.normal(size=(layers, 3, base.hidden)), np.full((layers, gates), gate), base)


def test_the_gate_by_hand() -> None:
    """Two heads of queries share keys 0 and 1 and values 10 and 20, of one number each, scaling 1.

    Query 1 weighs its scores 0 and 1 as 1 : e, query 0 both the same; gates 2 and -1 stand before the heads.
    """
    queries = torch.tensor([[[[1.0]], [[0.0]]]])  # [B=1, A=2, T=1, D=1]
    keys, values = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[10.0], [20.0]]])  # [K=1, P=2, D=1]
    found = gated(queries, keys, values, torch.tensor([2.0, -1.0]), 1.0)
    assert found.tolist() == [[[pytest.approx(2 * (10 + 20 * e) / (1 + e)), pytest.approx(-15.0)]]]
    both = gated(queries, keys, values, torch.tensor([0.5]), 0.0)
    assert both.tolist() == [[[7.5, 7.5]]]


def test_text_is_heard_apart_from_the_prompt(any_model: Any) -> None:
    """One layer of a model, spelt out: its text's attention as it was, plus gate · what a prompt alone would say."""
    adapter, ids = drawn(any_model, gates=2), torch.tensor([[5, 6, 7, 8]])
    attention, seen = attentions(any_model)[-1], {}
    hooks = [
        attention.register_forward_pre_hook(lambda _, __, named: seen.update(named), with_kwargs=True),
        attention.register_forward_hook(lambda _, __, out: seen.update(out=out[0])),
    ]
    with torch.no_grad():
        any_model(ids, use_cache=False)
        plain, states, (cos, sin) = seen["out"], seen["hidden_states"], seen["position_embeddings"]
        with applied(adapter, any_model):
            any_model(ids, use_cache=False)
        changed = seen["out"]
        normed = [getattr(attention, name, torch.nn.Identity()) for name in ("q_norm", "k_norm")]
        queries = normed[0](attention.q_proj(states).view(4, 2, 32))  # [T, A, D]
        half = torch.cat([-queries[..., 16:], queries[..., :16]], -1)
        turned = queries * cos[0, :, None] + half * sin[0, :, None]
        prompt = torch.tensor(adapter.prompts[0])
        keys, values = normed[1](attention.k_proj(prompt)), attention.v_proj(prompt)  # [P, D], one head for both
        said = torch.softmax(turned @ keys.T / 32**0.5, -1) @ values  # [T, A, D]
        expected = plain + attention.o_proj(0.7 * said.flatten(1))
    for hook in hooks:
        hook.remove()
    assert torch.allclose(changed, expected, atol=1e-5)
    assert not torch.allclose(changed, plain, atol=1e-2)


def test_at_a_gate_of_zero_the_model_says_what_it_said(any_model: Any) -> None:
    """Logits to the bit, with all layers adapted; and after a gate that is open, as well."""
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        before = any_model(ids).logits
        with applied(drawn(any_model, 2, gate=0.0), any_model):
            assert torch.equal(any_model(ids).logits, before)
        with applied(drawn(any_model, 2), any_model):
            assert not torch.allclose(any_model(ids).logits, before, atol=1e-2)
        assert torch.equal(any_model(ids).logits, before)


def test_generating_with_a_cache_is_reading_all_of_it(any_model: Any) -> None:
    """Token by token from the cache, a row padded on the left, the logits are those of the whole text."""
    ids = torch.tensor([[3, 9, 27, 81, 43], [0, 0, 11, 22, 33]])
    mask = (ids > 0).long()
    with torch.no_grad(), applied(drawn(any_model, 2), any_model):
        out = any_model.generate(
            ids, attention_mask=mask, max_new_tokens=4, do_sample=False, output_logits=True,
            return_dict_in_generate=True, pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
        alone = any_model(out.sequences[1:, 2:]).logits[0, 2:-1]
    assert torch.allclose(torch.stack(out.logits)[:, 1], alone, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_peft_loads_and_is_loaded(kind: str, tmp_path: Path) -> None:
    """PEFT's logits are ours, to 1e-4, from our folder; what it saves is the same adapter."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=100, **GROUPED)).eval()
    model.save_pretrained(tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    adapter, ids = drawn(model), torch.arange(12).view(2, 6)
    adapter.save(tmp_path / "a")
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "m"), tmp_path / "a").eval()
    with torch.no_grad(), applied(GatedPrompt.load(tmp_path / "a"), model):
        assert torch.allclose(theirs(input_ids=ids).logits, model(ids).logits, atol=1e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    again = GatedPrompt.load(tmp_path / "theirs")
    assert again == adapter
    assert (again.base.layers, again.base.name) == (2, str(tmp_path / "m"))
    with applied(GatedPrompt.load(tmp_path / "theirs", base=str(tmp_path / "m")), model):
        pass


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_only_the_adapter_learns(method: LlamaAdapter, model: Any, tokenizer: Any, template: Template) -> None:
    """The loss falls, the model's bytes are equal before and after, none of its weights ever has a gradient."""
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    settings = replace(FEW, steps=20, schedule="constant")
    found = train_adapter(method, model, tokenizer, some(16), template, training=settings)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert (found.gates != 0).all()
    frozen = Frozen(model, tokenizer)
    batch = as_batch(rows_of(frozen, template, some(16), 1024))
    with torch.no_grad():
        plain = frozen.loss(batch, None).item()
        with applied(found, model):
            assert frozen.loss(batch, None).item() < plain - 1.0


def test_an_adapter_learns_what_labels_mean(model: Any, tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """Four labels that mean nothing to the model, chance 25 %: most are right. Saved, the adapter is the same."""
    settings = Training(steps=100, batch=16, warmup=5, evaluate_every=50)
    dev = some(48, held_out=True)
    found = train_adapter(LlamaAdapter(10), model, tokenizer, some(96), template, dev=dev, training=settings)
    assert found.made["dev"]["score"] > 0.6
    again = GatedPrompt.load(found.save(tmp_path / "a"))
    assert (again, again.made, again.base) == (found, found.made, found.base)


def test_many_labels_of_several_words_are_judged_with_the_adapter(model: Any, tokenizer: Any) -> None:
    """Nine, which share most of what they begin with: as good as all nine rows that run by themselves say."""
    names = [f"label number {number}" for number in range(9)]
    template = Template("{text} : {answer}", verbalizer=Verbalizer({name: [name] for name in names}))
    data = [Example(str(number), {"text": f"some {number}"}, name) for number, name in enumerate(names)]
    settings = replace(FEW, steps=8)
    found = train_adapter(LlamaAdapter(3), model, tokenizer, data, template, dev=data, training=settings)
    frozen = Frozen(model, tokenizer)
    with torch.no_grad(), applied(found, model):
        alone = [frozen.loss(as_batch([row]), None).item() / row.answer for row in rows_of(frozen, template, data, 64)]
    assert found.made["dev"]["loss"] == pytest.approx(float(np.mean(alone)), abs=1e-3)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_resumed_is_uninterrupted(
    method: LlamaAdapter, model: Any, tokenizer: Any, template: Template, tmp_path: Path
) -> None:
    """Stopped in its fourth step, started again: the same bits, and the same notes; another training is refused."""
    data: dict[str, Any] = {"dev": some(6, held_out=True), "training": FEW}
    whole = train_adapter(method, model, tokenizer, some(16), template, **data)
    again = resumed(partial(train_adapter, method, model, tokenizer, some(16), template, **data), tmp_path)
    assert again == whole
    assert again.made == whole.made
    with pytest.raises(RunMismatch, match="is of another training"):
        train_adapter(method, model, tokenizer, some(15), template, folder=tmp_path, **data)


def test_no_backend_can_serve_it(model: Any, template: Template, tmp_path: Path) -> None:
    """In a prompt it is refused with the reason, and so is its folder where a soft prompt's is wanted."""
    adapter = drawn(model)
    with pytest.raises(Unsupported, match=r"vLLM neither: .* softmax of its own .* no entry of a KV cache"):
        _ = adapter.vectors
    with pytest.raises(Unsupported, match="no backend can serve it"):
        list(replace(template, soft=adapter).render({"text": "a"}))  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match=r"is a LLaMA-Adapter's, .*GatedPrompt.load"):
        SoftPrompt.load(adapter.save(tmp_path / "a"))


def test_numbers_are_its_own(model: Any) -> None:
    """What is done to the arrays that it was made of changes nothing of it; its own cannot be written to."""
    base = base_of(model.name_or_path, model.config)
    prompts, gates = np.ones((1, 2, base.hidden), np.float32), np.ones((1, 1), np.float32)
    adapter = GatedPrompt(prompts, gates, base)
    digest = adapter.digest
    prompts[:], gates[:] = np.nan, np.nan
    assert adapter.digest == digest
    for its in (adapter.prompts, adapter.gates):
        with pytest.raises(ValueError, match="read-only"):
            its[:] = 0


def test_prompts_are_trained_elsewhere(model: Any, tokenizer: Any, template: Template) -> None:
    """`train` gives what stands in a prompt, and says so."""
    with pytest.raises(UserError, match=r"LlamaAdapter trains a GatedPrompt, which .* cannot take here"):
        train(LlamaAdapter(), model, tokenizer, some(4), template, training=FEW)  # type: ignore[arg-type]


def test_what_cannot_be_is_refused(model: Any, tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """Numbers that mean nothing, too many layers, other models, no words, other attention, other shapes and folders."""
    with pytest.raises(UserError, match="needs tokens ≥ 1 and layers ≥ 1, got 0 and None"):
        LlamaAdapter(0)
    with pytest.raises(UserError, match=r"init is one of vocabulary, text, random, got 'zero'"):
        LlamaAdapter(init="zero")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="was to adapt 99 layers, and"):
        train_adapter(LlamaAdapter(layers=99), model, tokenizer, some(4), template, training=FEW)
    with pytest.raises(UserError, match=r"\(recompute\) would leave out"):
        train_adapter(LlamaAdapter(), model, tokenizer, some(4), template, training=replace(FEW, recompute=True))
    other = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=50, **GROUPED))
    with pytest.raises(UserError, match="the prompt was trained for"), applied(drawn(model), other):
        pass
    neox = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", vocab_size=50, n_layer=1, n_embd=8, n_head=2))
    with pytest.raises(Unsupported, match="is a gpt2 model, and LLaMA-Adapter is known for llama, mistral"):
        train_adapter(LlamaAdapter(), neox, tokenizer, some(4), template, training=FEW)
    with pytest.raises(UserError, match="is a LlamaModel; load it with AutoModelForCausalLM"):
        train_adapter(LlamaAdapter(), model.base_model, tokenizer, some(4), template, training=FEW)
    good = drawn(model)
    with pytest.raises(UserError, match=r"gates \[layers, 1 or \d+\], got"):
        replace(good, gates=np.zeros((1, 7)))
    with pytest.raises(UserError, match="holds finite numbers"):
        replace(good, gates=np.full((1, 1), np.inf))
    SoftPrompt(np.ones((1, good.base.hidden)), good.base).save(tmp_path / "soft")
    with pytest.raises(DataError, match="is of type 'PROMPT_TUNING'; a LLaMA-Adapter's is 'ADAPTION_PROMPT'"):
        GatedPrompt.load(tmp_path / "soft")
    file = good.save(tmp_path / "a") / "adapter_model.safetensors"
    save_file({"layers.1.self_attn.adaption_gate": torch.ones(1)}, file)
    with pytest.raises(DataError, match=r"is not a LLaMA-Adapter's \(KeyError\('1prompt'\)\)"):
        GatedPrompt.load(tmp_path / "a")
    file.write_bytes(b"none")
    with pytest.raises(DataError, match=r"adapter_model\.safetensors cannot be read .*; save it again"):
        GatedPrompt.load(tmp_path / "a")
