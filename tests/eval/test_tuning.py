import json
from pathlib import Path

import pytest

from eval.folder import RunFolder
from icl.tiny import NAME, TINY
from templates.soft import Prefix, SoftPrompt
from tests.eval.command import icl, report, rows
from tests.shapes import make_pair

LABELS = ("--task", "labels", "--labels", "data")
SHORT = ("--steps", 6, "--batch", 8, "--limit", 40)


def test_a_tuned_prompt_runs_in_a_pipeline(tmp_path: Path) -> None:
    """Half a minute of training makes of a guess, without demonstrations, four right answers of five."""
    out = tmp_path / "prompts" / "labels"
    done = icl("tune", "prompt-tuning", *LABELS, "--steps", 250, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"icl eval labels -k 0 --soft-prompt {out} --model {NAME}" in done.stdout
    shots = ("eval", "labels", "-k", 0, "--limit", 100)
    assert icl(*shots, "--out", tmp_path / "without").returncode == 0
    told = icl(*shots, "--soft-prompt", out, "--out", tmp_path / "with")
    assert told.returncode == 0, told.stderr
    without, with_prompt = (report(tmp_path / name)["accuracy"]["value"] for name in ("without", "with"))
    assert without < 0.3
    assert with_prompt > 0.8
    prompt = SoftPrompt.load(out)
    assert f"|soft:labels@{prompt.digest}|" in report(tmp_path / "with")["signature"]
    assert (prompt.base.name, prompt.made["method"], prompt.made["template"]) == (TINY, "PromptTuning", "labels.v1")
    assert [prompt.made[name] for name in ("data", "examples", "dev_examples")] == ["labels", 875, 125]


def test_the_same_command_goes_on(tmp_path: Path) -> None:
    """What is done is not trained again: the same folder, the same prompt; two at once are refused."""
    words = ("tune", "p-tuning", *LABELS, *SHORT, "--out", tmp_path / "p")
    assert icl(*words).returncode == 0
    first = SoftPrompt.load(tmp_path / "p")
    assert icl(*words).returncode == 0
    assert SoftPrompt.load(tmp_path / "p") == first
    other = icl(*words, "--rate", 0.5)
    assert other.returncode == 2
    assert "is of another training" in other.stderr
    with RunFolder(tmp_path / "p.training").locked():
        second = icl(*words)
    assert second.returncode == 2
    assert "p.training is in use by process" in second.stderr


def test_trials_choose_rate_and_beginning(tmp_path: Path) -> None:
    """`--auto` shows what it tried, and trains with what was best; asked again, it does the same."""
    words = ("tune", "prompt-tuning", *LABELS, *SHORT, "--auto", "--out", tmp_path / "p")
    done = icl(*words)
    assert done.returncode == 0, done.stderr
    tried = [line.split("│")[1:3] for line in done.stderr.splitlines() if line.startswith("│")][:6]
    assert {(init.strip(), rate.strip()) for init, rate in tried} == {
        (init, rate) for init in ("labels", "vocabulary") for rate in ("0.03", "0.1", "0.3")
    }
    settings = SoftPrompt.load(tmp_path / "p").made["settings"]
    assert (settings["init"], f"{settings['rate']:.3g}") == tuple(word.strip() for word in tried[0])
    assert settings["steps"] == 6
    assert icl(*words).stdout == done.stdout


def test_baselines_run_beside_prompts(tmp_path: Path) -> None:
    """Each with the prompts' options; what it wrote is listed, and evaluates as any model does."""
    listed = {}
    for method in ("lora", "ia3", "bitfit", "full", "linear-probe"):
        short = ("--limit", 40) if method == "linear-probe" else SHORT
        done = icl("tune", method, *LABELS, *short, "--out", tmp_path / method)
        assert done.returncode == 0, done.stderr
        listed[method] = done.stdout
    whole = {"lora": tmp_path / "lora" / "merged", "ia3": tmp_path / "ia3" / "merged"}
    whole |= {name: tmp_path / name for name in ("bitfit", "full")}
    for method, folder in whole.items():
        assert f"icl eval labels -k 0 --model {folder}" in listed[method].replace("\n", " ").replace("  ", " ")
    assert "icl eval" not in listed["linear-probe"]
    found = json.loads(icl("prompts", tmp_path, "--json").stdout)
    assert {one["made"]["method"]: (one["kind"], one["weights"]) for one in found} == {
        "LoRA": ("adapter", 77824),
        "IA3": ("adapter", 2048),
        "BitFit": ("model", 1536),
        "Full": ("model", 920192),
        "LinearProbe": ("probe", 516),
    }
    assert all(one["made"]["dev_examples"] == 5 for one in found)
    table = icl("prompts", tmp_path, COLUMNS="200").stdout
    assert "516 weights (0.056 %)" in table
    assert "920,192 weights (100 %)" in table


def test_a_tuned_model_stops_where_a_label_ends(tmp_path: Path) -> None:
    """It says the label and nothing behind it: an adapter in its weights, run as any model is."""
    assert icl("tune", "lora", *LABELS, "--steps", 150, "--out", tmp_path / "lora").returncode == 0
    shots = ("eval", "labels", "-k", 0, "--limit", 100, "--backend", "transformers")
    told = icl(*shots, "--model", tmp_path / "lora" / "merged", "--out", tmp_path / "run")
    assert told.returncode == 0, told.stderr
    assert report(tmp_path / "run")["accuracy"]["value"] > 0.9


def test_files_templates_and_labels_of_ones_own(tmp_path: Path) -> None:
    """A YAML template with soft slots, words for labels, and a row with an unknown label, which is named."""
    (tmp_path / "t.yaml").write_text(
        'text: "{soft:2}{review}{soft:3} {answer}"\nreader: text\nsource: our own\n', encoding="utf-8"
    )
    good = [{"id": f"r{i}", "review": f"the {word}", "answer": "sea"} for i, word in enumerate(("wave", "tide") * 8)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in good))
    words = ("tune", "p-tuning", "--train", tmp_path / "a.jsonl", "--template", tmp_path / "t.yaml", "--steps", 3)
    done = icl(*words, "--labels", "sea=dax|wug,farm=fep", "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert len(SoftPrompt.load(tmp_path / "p")) == 5
    assert f"soft_prompt: {tmp_path / 'p'}" in done.stdout
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": "b7", "review": "a", "answer": "space"}) + "\n")
    bad = icl(*words, "--dev", tmp_path / "b.jsonl", "--labels", "sea=dax,farm=fep", "--out", tmp_path / "q")
    assert bad.returncode == 2
    place = f"({tmp_path / 'b.jsonl'}, line 1)"
    assert f"'b7' {place} has the label 'space', and the verbalizer has ['sea', 'farm']" in bad.stderr


def test_an_encoder_with_a_decoder_is_tuned(tmp_path: Path, tiny_model: Path) -> None:
    """By the same command; it says that no backend runs it, and refuses prefixes."""
    model = make_pair("t5", tiny_model, tmp_path / "t5")
    words = (*LABELS, *SHORT, "--model", model)
    done = icl("tune", "prompt-tuning", *words, "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert "icl eval" not in done.stdout
    assert "backends run causal models alone" in done.stdout
    assert SoftPrompt.load(tmp_path / "p").base.task == "SEQ_2_SEQ_LM"
    refused = icl("tune", "prefix-tuning", *words, "--out", tmp_path / "q")
    assert refused.returncode == 2
    assert "(t5) cannot take here; train SoftPrompts" in refused.stderr


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    """Unknown methods and inits, no data, no template, an empty dev set, another model's prompt."""
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a", "answer": "dax"}) + "\n")
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "t.yaml").write_text('text: "{text} {answer}"\nlabels: {dax: [dax]}\nsource: our own\n')
    cases: list[tuple[tuple[object, ...], str]] = [
        (("prompt-tunning", *LABELS), "no method 'prompt-tunning'; the nearest: prompt-tuning"),
        (("prompt-tuning", *LABELS, "--init", "label"), "init is one of labels, vocabulary, text, uniform"),
        (("prompt-tuning",), "say what to learn, once: --train FILE, or --task NAME"),
        (("prompt-tuning", "--train", tmp_path / "a.jsonl"), "say how examples are worded with --template"),
        (("prompt-tuning", *LABELS, "--dev", tmp_path / "none.jsonl"), "has no rows"),
        (("prefix-tuning", *LABELS, "--model", tmp_path / "nowhere"), "cannot be loaded"),
        (
            (
                "prompt-tuning",
                "--train",
                tmp_path / "a.jsonl",
                "--template",
                tmp_path / "t.yaml",
                "--labels",
                "pos,neg",
            ),
            "template 't' has labels of its own, ['dax']; leave out --labels",
        ),
        (("lora", *LABELS, "--tokens", 3), "no tokens there; it takes rank, alpha, targets"),
        (("linear-probe", "--task", "labels"), "tells labels apart, and template 'labels.v1' has none"),
        (("linear-probe", *LABELS, "--steps", 3), "linear-probe is solved and takes no steps; leave out --steps"),
    ]
    for words, message in cases:
        done = icl("tune", *words, "--out", tmp_path / "p")
        assert done.returncode == 2, words
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.engine
def test_engines_agree_on_a_tuned_prompt(tmp_path: Path) -> None:
    """A soft prompt and a prefix, told by the command line alone: vLLM says what transformers says."""
    pytest.importorskip("vllm")
    for method in ("prompt-tuning", "prefix-tuning"):
        done = icl("tune", method, *LABELS, "--steps", 40, "--out", tmp_path / method)
        assert done.returncode == 0, done.stderr
    asked = ("eval", "labels", "-k", 2, "--limit", 24, "--model", NAME, "--backend-arg", "dtype=float32")
    assert len(Prefix.load(tmp_path / "prefix-tuning")) == 20
    for method in ("prompt-tuning", "prefix-tuning"):
        said = {}
        for backend in ("transformers", "vllm"):
            run = tmp_path / f"{method}-{backend}"
            done = icl(*asked, "--soft-prompt", tmp_path / method, "--backend", backend, "--out", run)
            assert done.returncode == 0, done.stderr
            said[backend] = [row["completions"] for row in rows(run)]
        assert said["vllm"] == said["transformers"]
