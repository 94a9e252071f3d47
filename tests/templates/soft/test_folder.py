import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from templates.errors import DataError, UserError
from templates.soft import Base, Prefix, SoftPrompt, base_of

peft = pytest.importorskip("peft")

IDS = torch.tensor([[0, 40, 41, 42, 43, 44], [0, 60, 50, 40, 30, 20]])


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Base:
    """Grouped-query attention: two heads, one of keys and values."""
    return base_of(str(tiny_model), AutoConfig.from_pretrained(tiny_model))


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def vectors(tokens: int, width: int) -> Any:
    return np.random.default_rng(0).normal(size=(tokens, width)).astype(np.float32)


def logits(model: Any, prompt: SoftPrompt | Prefix) -> torch.Tensor:
    """What the prompt means, said with transformers alone: [B, T, V] of the text's positions."""
    from transformers import DynamicCache

    rows, size = len(IDS), len(prompt)
    with torch.no_grad():
        if isinstance(prompt, SoftPrompt):
            soft = torch.tensor(prompt.vectors).expand(rows, -1, -1)
            embedded = torch.cat([soft, model.get_input_embeddings()(IDS)], 1)
            return torch.as_tensor(model(inputs_embeds=embedded).logits[:, size:])
        cache = DynamicCache(config=model.config)
        for layer, (keys, values) in enumerate(zip(prompt.keys, prompt.values, strict=True)):
            cache.update(*(torch.tensor(part).expand(rows, -1, -1, -1) for part in (keys, values)), layer)
        return torch.as_tensor(model(input_ids=IDS, past_key_values=cache).logits)


@pytest.mark.parametrize("kind", [SoftPrompt, Prefix])
def test_peft_loads_what_we_save(kind: type[Any], base: Base, tiny_model: Path, model: Any, tmp_path: Path) -> None:
    """Its logits are those of the prompt's definition, to 1e-4."""
    width = base.hidden if kind is SoftPrompt else base.layers * 2 * base.kv_heads * base.head_size
    prompt = kind(vectors(5, width), base, {"method": "by hand"})
    prompt.save(tmp_path / "p")
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path / "p")
    with torch.no_grad():
        got = theirs(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, -IDS.shape[1] :]
    assert torch.allclose(got, logits(model, prompt), atol=1e-4)
    assert kind.load(tmp_path / "p") == prompt
    assert kind.load(tmp_path / "p").base == base
    assert kind.load(tmp_path / "p").made == {"method": "by hand"}


@pytest.mark.parametrize("method", ["prompt", "p", "prefix", "projected"])
def test_we_load_what_peft_saves(method: str, tiny_model: Path, model: Any, base: Base, tmp_path: Path) -> None:
    """Prompt tuning, P-tuning, and prefixes with and without their projection: logits agree to 1e-4."""
    torch.manual_seed(0)
    config = {
        "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "p": lambda: peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=16),
        "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "projected": lambda: peft.PrefixTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=4, prefix_projection=True, encoder_hidden_size=16
        ),
    }[method]()
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config).eval()
    theirs.save_pretrained(tmp_path / "p")
    kind = Prefix if method in {"prefix", "projected"} else SoftPrompt
    ours = kind.load(tmp_path / "p")
    with torch.no_grad():
        expected = theirs(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, -IDS.shape[1] :]
    assert torch.allclose(logits(model, ours), expected, atol=1e-4)
    ours.base.check(base)


def test_another_model_is_refused(base: Base, tiny_model: Path, tmp_path: Path) -> None:
    """By its weights, its shape, or where nothing else is known its name; `base` says that it is the same."""
    from tests.tiny import make_tiny

    other = make_tiny(tmp_path / "tiny", seed=1)
    theirs = base_of(str(other), AutoConfig.from_pretrained(other))
    with pytest.raises(UserError, match=r"weights of .* are others"):
        base.check(theirs)
    with pytest.raises(UserError, match="hidden=64, and 'wide' has 128"):
        base.check(Base("wide", base.layers, hidden=128))
    with pytest.raises(UserError, match="if the two are one model, load the prompt with base='org/renamed'"):
        base.check(Base("org/renamed", base.layers))
    base.check(Base(f"elsewhere/{tiny_model.name}", base.layers))
    base.check(Base(f"hub/{tiny_model.name}", base.layers, weights="@c0ffee"))  # a commit says nothing of a file
    with pytest.raises(UserError, match=r"weights of .* are others"):
        Base("hub/m", 2, weights="@c0ffee").check(Base("hub/m", 2, weights="@decaf"))
    SoftPrompt(vectors(2, base.hidden), base).save(tmp_path / "p")
    SoftPrompt.load(tmp_path / "p", base="org/renamed").base.check(Base("org/renamed", base.layers))


def test_what_is_not_a_prompt_is_refused(base: Base, tmp_path: Path) -> None:
    """No folder, another adapter, another tensor, a broken file, a prompt of the other kind: each says what to do."""
    with pytest.raises(
        DataError, match=r"adapter_config\.json cannot be read \(No such file or directory\); name a folder"
    ):
        SoftPrompt.load(tmp_path / "nothing")
    folder = SoftPrompt(vectors(2, base.hidden), base).save(tmp_path / "p")
    with pytest.raises(UserError, match="holds a SoftPrompt, not a Prefix"):
        Prefix.load(folder)
    (folder / "icl_prompt.json").unlink()  # what PEFT writes alone
    told = (folder / "adapter_config.json").read_text()
    (folder / "adapter_config.json").write_text(told.replace('"num_layers": 2', '"num_layers": null'))
    with pytest.raises(
        DataError, match=r"adapter_config\.json does not say .* whole number ≥ 0, got None.*again with PEFT"
    ):
        SoftPrompt.load(folder)
    (folder / "adapter_config.json").write_text(
        told.replace("CAUSAL_LM", "SEQ_2_SEQ_LM").replace('tokens": 2', 'tokens": "2"')
    )
    with pytest.raises(DataError, match=r"adapter_config\.json has num_virtual_tokens '2', where a number belongs"):
        SoftPrompt.load(folder)
    whole = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(whole[:20])
    with pytest.raises(DataError, match=r"adapter_model\.safetensors cannot be read"):
        SoftPrompt.load(folder)
    for dtype in (torch.bfloat16, torch.float8_e5m2):
        save_file({"prompt_embeddings": torch.ones(2, 64).to(dtype)}, folder / "adapter_model.safetensors")
        with pytest.raises(DataError, match=r"cannot be read \(.*float.*\); save it again as safetensors in float32"):
            SoftPrompt.load(folder)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(DataError, match="is of type 'LORA'"):
        SoftPrompt.load(folder)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", r"is not JSON \(Expecting .*\); copy it again from where it is whole, or make it anew"),
        ("\xff", r"is not JSON \('utf-8' codec .*\); copy it again"),
        ("[]", "is not a JSON object but a list; copy it again"),
        ("{}", "has base None, where an object belongs; make it anew"),
        (
            '{"base": {"name": "m"}}',
            "does not say which model .* missing 1 required positional argument: 'layers'; make it anew",
        ),
        ('{"base": {"name": 3, "layers": 2}}', "does not say which model .* a base's name is a text, got 3"),
        (
            '{"base": {"name": "m", "layers": "2"}}',
            "does not say which model .* a base's layers is a whole number ≥ 0, got '2'",
        ),
        ('{"base": {"name": "m", "layers": 2}, "made": "well"}', "has made 'well', where an object belongs"),
    ],
)
def test_broken_notes_are_refused(content: str, match: str, base: Base, tmp_path: Path) -> None:
    """Each refusal says which file, what is wrong in it, and what to do."""
    folder = SoftPrompt(vectors(2, base.hidden), base).save(tmp_path / "p")
    (folder / "icl_prompt.json").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=rf"p/icl_prompt\.json {match}"):
        SoftPrompt.load(folder)


def test_a_prompt_is_a_matrix_of_finite_numbers(base: Base) -> None:
    """As wide as its model; equal numbers are equal prompts, with one digest; parts are prompts."""
    with pytest.raises(UserError, match=r"shape \[tokens, 64\], got \[2, 63\]"):
        SoftPrompt(vectors(2, 63), base)
    with pytest.raises(UserError, match="finite"):
        SoftPrompt(np.full((1, 64), np.nan, dtype=np.float32), base)
    prompt = SoftPrompt(vectors(4, 64), base)
    assert prompt == SoftPrompt(vectors(4, 64), base)
    assert prompt != SoftPrompt(vectors(4, 64) + 1, base)
    assert len({prompt, SoftPrompt(vectors(4, 64), base)}) == 1
    assert np.array_equal(prompt.part(1, 3).vectors, prompt.vectors[1:3])


def test_saving_again_replaces(base: Base, tmp_path: Path) -> None:
    """The folder holds the newer prompt, nothing lies about, and who may read one file of it may read all."""
    SoftPrompt(vectors(2, 64), base).save(tmp_path / "p")
    newer = SoftPrompt(vectors(3, 64), base)
    assert SoftPrompt.load(newer.save(tmp_path / "p")) == newer
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert len({path.stat().st_mode for path in (tmp_path / "p").iterdir()}) == 1


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    """What a person keeps there stays: other prompts, other files; a prompt's own folder, or an empty one, is taken."""
    prompt = SoftPrompt(np.zeros((2, 4)), Base("model", 2, hidden=4))
    (tmp_path / "prompts" / "other").mkdir(parents=True)
    (tmp_path / "prompts" / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds 'other', which would be lost"):
        prompt.save(tmp_path / "prompts")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds 'thesis\.txt', which"):
        prompt.save(tmp_path / "notes")
    assert [path.read_text() for path in tmp_path.rglob("thesis.txt")] == ["years of work"] * 2
    (tmp_path / "empty").mkdir()
    assert SoftPrompt.load(prompt.save(prompt.save(tmp_path / "empty"))) == prompt
