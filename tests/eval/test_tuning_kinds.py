import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner

from eval import loops
from eval.cli import app
from eval.evaluating import evaluate_command
from eval.listed import in_folder
from eval.tuning import tune_command
from icl.tiny import TINY
from templates import load_template
from templates.errors import Unsupported, UserError
from templates.soft import PromptTuning, SoftPrompt, Training, train
from templates.soft.dev import Dev
from templates.soft.devices import Devices
from templates.soft.gated import GatedPrompt
from templates.soft.heads import Classifier
from templates.soft.trials import Trial
from tests.eval.test_tuning import LABELS, SHORT
from tests.masked import examples, make_masked

SUMMED: Mapping[str, Any] = {"task": "labels", "labels": "data", "limit": 40, "steps": 4, "batch": 8, "model": TINY}


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """A tiny BERT, and phrases about what it may say "one" and "two" of."""
    folder = tmp_path_factory.mktemp("masked")
    rows = [{"id": one.id, "text": one.fields["text"], "answer": one.answer} for one in examples("topic")[::2]]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "t.yaml").write_text('text: "{text} : {answer}"\nreader: text\nsource: our own\n')
    data = {"train": str(folder / "train.jsonl"), "template": str(folder / "t.yaml"), "labels": "one,two"}
    return {"model": str(make_masked("bert", folder / "bert")), "steps": 4, "batch": 8, **data}


def test_options_reach_method_and_settings(tmp_path: Path) -> None:
    """Those of an encoder, and those of the loop."""
    loop = ("--warmup", 2, "--clip", 0.5, "--evaluate-every", 3, "--keep-every", 2)
    words = ("tune", "p-tuning", *LABELS, *SHORT, "--encoder", "lstm", *loop, "--model", TINY, "--out", tmp_path / "p")
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    settings = SoftPrompt.load(tmp_path / "p").made["settings"]
    names = ("encoder", "warmup", "clip", "evaluate_every", "keep_every", "rate")
    assert [settings[name] for name in names] == ["lstm", 2, 0.5, 3, 2, 3e-3]
    tune_command("prefix-tuning", tmp_path / "q", **SUMMED, inner=16, clip=0.0, warmup=0)
    settings = in_folder(tmp_path / "q").made["settings"]
    assert [settings[name] for name in ("inner", "clip", "warmup")] == [16, 0, 0]


@pytest.mark.parametrize("method", ["prompt-tuning", "lora"])
def test_a_masked_model_is_tuned(
    method: str, masked: Mapping[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the same command; it says that no backend runs it."""
    tune_command(method, tmp_path / "p", **masked)
    said = capsys.readouterr().out
    assert "icl eval" not in said
    assert "backends run causal models alone" in said
    found = in_folder(tmp_path / "p")
    assert (found.base.task, found.base.name) == ("FEATURE_EXTRACTION", masked["model"])
    assert (found.made["examples"], found.made["dev_examples"]) == (31, 5)


def test_a_classifier_is_tuned(masked: Mapping[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an encoder that has no output layer, with trials before it; who runs it is said, and a run refuses it."""
    encoder = str(tmp_path / "encoder")
    for part in (AutoModel, AutoTokenizer):
        part.from_pretrained(masked["model"]).save_pretrained(encoder)
    tune_command("p-tuning-v2", tmp_path / "c", **{**masked, "model": encoder}, classifier=True, auto=True)
    said = capsys.readouterr()
    assert said.err.count("vocabulary") == 3
    assert "Classifier.load(" in said.out.replace("\n", "")
    assert "icl eval" not in said.out
    assert Classifier.load(tmp_path / "c").labels == ("one", "two")
    assert in_folder(tmp_path / "c").kind == "Classifier"
    with pytest.raises(Unsupported, match="holds a classifier and its prefix, which no backend runs"):
        evaluate_command("labels", tmp_path / "run", model=TINY, k=0, soft_prompt=str(tmp_path / "c"))


def test_a_llama_adapter_is_tuned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With as many layers and tokens as are asked for; no run takes it."""
    tune_command("llama-adapter", tmp_path / "a", **SUMMED, layers=2, tokens=3)
    said = capsys.readouterr().out.replace("\n", "")
    assert "with applied(GatedPrompt.load(" in said
    adapter = GatedPrompt.load(tmp_path / "a")
    assert adapter.prompts.shape[:2] == (2, 3)
    with pytest.raises(Unsupported, match="is a LLaMA-Adapter's"):
        evaluate_command("labels", tmp_path / "run", model=TINY, k=0, soft_prompt=str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("prompt-tuning", {"encoder": "lstm"}, "no encoder there; it takes tokens, init, text"),
        ("p-tuning", {"encoder": "gru"}, "encoder is 'lstm' or 'mlp', got 'gru'"),
        ("p-tuning-v2", {"inner": 8}, "no inner there; it takes tokens, init, text"),
        ("p-tuning-v2", {"layers": 2}, "no layers there"),
        ("prompt-tuning", {"classifier": True}, "and PromptTuning trains none; take prefix-tuning or p-tuning-v2"),
        ("lora", {"classifier": True}, "and LoRA trains none; take prefix-tuning or p-tuning-v2"),
        ("lora", {"auto": True}, "and LoRA trains none; leave it out"),
        ("p-tuning-v2", {"classifier": True, "recompute": True}, "take PTuningV2, without"),
        ("llama-adapter", {"layers": 99}, "was to adapt 99 layers, and .* has 4"),
    ],
)
def test_options_that_mean_nothing_for_a_method_are_refused(
    method: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """In one sentence, which says for what they are."""
    with pytest.raises(UserError, match=message):
        tune_command(method, tmp_path / "p", **SUMMED, **options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("pos=great,pos=good,neg=bad", r"names 'pos' twice; write pos=great\|good$"),
        ("yes,no, yes", "names 'yes' twice; write yes=yes$"),
    ],
)
def test_a_label_is_named_once(labels: str, message: str, tmp_path: Path) -> None:
    """Words that came first would be lost; how to write all of them is said."""
    with pytest.raises(UserError, match=message):
        tune_command("prompt-tuning", tmp_path / "p", task="labels", labels=labels, limit=8)


def test_trials_are_shown_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of several processes that train together the first one shows the table of what all of them found."""
    trials = [Trial(PromptTuning(), 0.3, Dev(0.5, 1.0))]
    monkeypatch.setattr(loops, "run_trials", lambda *_, **__: trials)
    material = loops.Material((None, None), [], [], load_template("labels.v1"), "labels", Path())
    for rank in (0, 1):
        monkeypatch.setattr(loops, "devices", lambda rank=rank: Devices(2, rank))
        assert loops.tried(train, PromptTuning(), material, Training())[1].rate == 0.3
        assert ("0.3" in capsys.readouterr().err) == (rank == 0)


def test_what_is_solved_takes_no_steps(tmp_path: Path) -> None:
    """All options of steps are named as they are typed."""
    options: dict[str, Any] = {"task": "labels", "labels": "data", "keep_every": 5, "recompute": True, "batch": 4}
    with pytest.raises(UserError, match=r"takes no steps; leave out --keep-every, --recompute$"):
        tune_command("linear-probe", tmp_path / "p", **options)
