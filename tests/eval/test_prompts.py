import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig

from eval import models
from eval.listed import in_folder
from eval.prompts import prompts_command, with_nearest
from icl.tiny import NAME, TINY
from templates.soft import Base, Mixture, Prefix, SoftPrompt, base_of
from templates.soft.gated import GatedPrompt
from templates.soft.heads import Classifier
from tests.eval.command import icl

BASE = Base("org/model", 2, hidden=4, heads=2, kv_heads=1, head_size=2)
MADE = {"method": "PromptTuning", "dev": {"score": 0.75, "loss": 0.5}, "dev_examples": 8, "share": 0.01}


def soft(path: Path, **made: Any) -> Path:
    """The notes of a prompt that was saved there."""
    return SoftPrompt(np.ones((2, 4)), BASE, MADE | made).save(path) / "icl_prompt.json"


def test_prompts_are_listed(tmp_path: Path) -> None:
    """By path, model, method, data and dev score; what is no prompt is named and left out."""
    base = base_of(TINY, AutoConfig.from_pretrained(TINY))
    numbers = base.layers * 2 * base.kv_heads * base.head_size
    SoftPrompt(np.ones((20, base.hidden)), base, MADE | {"data": "labels", "examples": 35}).save(tmp_path / "soft")
    Prefix(np.ones((3, numbers)), base, MADE | {"method": "PrefixTuning"}).save(tmp_path / "prefix")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    listed = icl("prompts", tmp_path, "--json")
    assert listed.returncode == 0, listed.stderr
    found = json.loads(listed.stdout)
    assert [one["kind"] for one in found] == ["Prefix", "SoftPrompt"]
    assert [one["made"]["method"] for one in found] == ["PrefixTuning", "PromptTuning"]
    assert "is of type 'LORA'" in listed.stderr
    told = icl("prompts", tmp_path, "--nearest", 2, COLUMNS="200").stdout
    for said in ("prefix-tuning", "labels, 35 examples", NAME, "75.0% of 8", "prefix is a prefix: keys and values"):
        assert said in told
    near = told.splitlines()
    begins = next(place for place, line in enumerate(near) if "nearest tokens with their cosines:" in line)
    assert len(near) - begins - 1 == 20
    assert near[begins + 1].count("'") == 4
    assert "no trained prompts in" in icl("prompts", tmp_path / "lora").stdout
    assert icl("prompts", tmp_path / "nowhere").returncode == 2


def test_a_broken_folder_does_not_hide_the_others(tmp_path: Path) -> None:
    """Of each broken one it is said what is wrong, in a line; all others are listed."""
    soft(tmp_path / "good")
    soft(tmp_path / "half").write_text('{"base": {"na')
    soft(tmp_path / "list").write_text("[1]")
    soft(tmp_path / "based").write_text(json.dumps({"base": {"name": "m", "layers": "two"}}))
    soft(tmp_path / "scored", dev={"score": "high", "loss": 0.5})
    soft(tmp_path / "shared", share=0)
    soft(tmp_path / "named", method=["PromptTuning"])
    for name, notes in (("cut", "{"), ("kindless", '{"base": {"name": "m", "layers": 2}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "icl_tuned.json").write_text(notes)
    tuned = {"kind": "model", "base": {"name": "[/m]", "layers": 2}, "made": {"method": "[/b]", "weights": 7}}
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "icl_tuned.json").write_text(json.dumps(tuned))
    done = icl("prompts", tmp_path, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    rows = [line.split("│")[1:7] for line in done.stdout.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row][1:] for row in rows] == [
        ["model", "prompt-tuning", "", "2 tokens, 8 weights (1.0 %)", "75.0% of 8, loss 0.500"],
        ["m]", "[/b]", "", "7 weights", ""],
    ]
    said = [line.removeprefix(f"warning: {tmp_path}/") for line in done.stderr.splitlines()]
    wrong = [
        "based/icl_prompt.json does not say which model it is for: a base's layers is a whole number ≥ 0, got 'two",
        "cut/icl_tuned.json is not JSON",
        "half/icl_prompt.json is not JSON",
        "kindless/icl_tuned.json is of a kind None; icl tune writes adapter, model, probe",
        "list/icl_prompt.json is not a JSON object but a list",
        "named has notes that no training writes: field 'method': Input should be a valid string",
        "scored has notes that no training writes: field 'dev.score': Input should be a valid number, got \"high\"",
        "shared has notes that no training writes: field 'share': Input should be greater than 0, got 0",
    ]
    assert [line[: len(start)] for line, start in zip(said, wrong, strict=True)] == wrong


def test_classifiers_and_adapters_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As what they are, with all that was trained, and not as the prefix or the prompt that is in them."""
    made = {"method": "PTuningV2", "dev": None}
    prefix = Prefix(np.ones((3, 8)), BASE, made)
    head = (np.ones((2, 4), np.float32), np.ones(2, np.float32))
    Classifier(prefix, *head, ("no", "yes"), made).save(tmp_path / "c")
    found = in_folder(tmp_path / "c").described()
    assert (found["kind"], found["weights"], found["tokens"]) == ("Classifier", 3 * 8 + 2 * 4 + 2, 3)
    assert (found["labels"], found["base"]["name"]) == (["no", "yes"], "org/model")
    GatedPrompt(np.ones((2, 5, 4)), np.zeros((2, 1)), BASE, made).save(tmp_path / "a")
    found = in_folder(tmp_path / "a").described()
    assert (found["kind"], found["weights"], found["tokens"], found["layers"]) == ("GatedPrompt", 42, 5, 2)
    monkeypatch.setenv("COLUMNS", "200")
    prompts_command(tmp_path)
    assert "3 tokens, a classifier of 2 labels, 34 weights" in capsys.readouterr().out


def test_a_mixture_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dev score is shown once, and none of its prompts; one of those is found when its own folder is asked for."""
    prompts = [SoftPrompt(np.full((tokens, 4), tokens), BASE, {"method": "MixedPrompts"}) for tokens in (2, 3)]
    folder = Mixture(prompts, [0.25, 0.75], MADE | {"method": "MixedPrompts"}).save(tmp_path / "m")
    soft(tmp_path / "p")
    prompts_command(tmp_path, as_json=True)
    mixture, alone = json.loads(capsys.readouterr().out)
    assert (mixture["path"], mixture["kind"], alone["kind"]) == (str(folder), "Mixture", "SoftPrompt")
    assert (mixture["prompts"], mixture["tokens"], mixture["weights"]) == (2, 5, 5 * 4 + 2)
    assert (mixture["shares"], mixture["made"]["dev"]["score"]) == ([0.25, 0.75], 0.75)
    monkeypatch.setenv("COLUMNS", "200")
    prompts_command(folder)
    assert "2 prompts, 5 tokens, 22 weights (1.0 %)" in capsys.readouterr().out
    prompts_command(folder / "1", as_json=True)
    assert [(one["kind"], one["tokens"]) for one in json.loads(capsys.readouterr().out)] == [("SoftPrompt", 3)]
    (folder / "icl_mixture.json").write_text("{")
    prompts_command(folder, as_json=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert f"warning: {folder / 'icl_mixture.json'} is not JSON" in said.err


def test_what_a_killed_save_left_is_not_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hidden folder beside the prompt is passed over; one above the folder that is asked for is no matter."""
    soft(tmp_path / ".all" / ".p.123.new" / "0")
    soft(tmp_path / ".all" / "p")
    prompts_command(tmp_path / ".all", as_json=True)
    assert [one["path"] for one in json.loads(capsys.readouterr().out)] == [str(tmp_path / ".all" / "p")]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are loaded."""
    names: list[str] = []
    load = models.load_model

    def counting(name: str) -> Any:
        names.append(name)
        return load(name)

    monkeypatch.setattr(models, "load_model", counting)
    return names


def test_a_model_is_loaded_once_for_all_its_prompts(loads: list[str], tmp_path: Path) -> None:
    """What cannot be loaded is said beside its prompt, as is a model that has changed; the others are told."""
    from transformers import AutoConfig

    base = base_of(TINY, AutoConfig.from_pretrained(TINY))
    gone, changed = Base("/no/where", 2, hidden=4), Base(TINY, base.layers, hidden=base.hidden, weights="others")
    for name, one in (("a", base), ("b", gone), ("c", changed), ("d", base), ("e", gone)):
        SoftPrompt(np.ones((2, one.hidden)), one).save(tmp_path / name)
    found = with_nearest([in_folder(tmp_path / name) for name in "abcde"], 3)
    assert loads == [TINY, "/no/where"]
    assert [[len(words) for words in one.own["nearest"]] for one in found] == [[3, 3], [], [], [3, 3], []]
    assert ["unknown" in one.own for one in found] == [False, True, True, False, True]
    assert "'/no/where' cannot be loaded" in found[1].own["unknown"]
    assert "the weights of" in found[2].own["unknown"]
