import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from eval import ways
from eval.demo import worked
from eval.rows import Outcome, Row
from eval.worlds.figures import figures
from icl.tiny import NAME, TINY, located
from tests.eval.command import icl, report

ROOT = Path(__file__).parent.parent.parent


def test_the_demo_shows_every_way(tmp_path: Path) -> None:
    """Four accuracies, the plot, one worked example; the second time nothing is asked again."""
    out = tmp_path / "demo"
    done = icl("demo", "--out", out, "--limit", 6)
    assert done.returncode == 0, done.stderr
    for way in (ways.DIRECT, ways.CHAIN, ways.VOTE_5, ways.VOTE_20):
        assert f"│ {way.name}" in done.stdout
    assert "Greedy path:" in done.stdout
    assert "Votes:" in done.stdout
    assert "right:" in done.stdout
    assert (out / "votes" / "curve.png").is_file()
    assert len(report(out / "votes")["curve"]) == 20
    assert icl("demo", "--out", out, "--limit", 6).returncode == 0
    sessions = [json.loads(line) for line in (out / "votes" / "sessions.jsonl").read_text().splitlines()]
    assert [session["engine"]["calls"] for session in sessions] == [6, 6, 0, 0]  # five paths, fifteen more, none, none


def test_the_bundled_model_is_the_default_without_a_gpu(tmp_path: Path) -> None:
    """No --model, no --backend: the run says which model it was."""
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    done = icl("eval", "labels", "--limit", 4, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no --model: this is icl-tiny, the bundled one" in done.stderr
    assert report(tmp_path)["config"]["model"] == NAME
    assert report(tmp_path)["config"]["backend"]["name"] == "transformers"


def test_a_machine_with_a_gpu_deserves_a_named_model(tmp_path: Path) -> None:
    """Where nvidia-smi is found, nothing is taken for granted."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = icl("eval", "sums", "--limit", 1, "--out", tmp_path / "run", PATH=path)
    assert done.returncode == 2
    assert "say which model with --model" in done.stderr


def test_questions_that_failed_are_said() -> None:
    """The worked example is one of the others."""

    def row(question: str, outcome: Outcome, *texts: str) -> Row:
        answers: list[str | None] = [text.split()[-1] for text in texts] or [None]
        return Row(id=question, question=question, gold="3", outcome=outcome, answer=answers[0], answers=answers,
                   completions=list(texts), share=1.0, error=None if texts else "boom")  # fmt: skip

    failed, wrong = row("1 + 1?", Outcome.FAILED), row("1 + 2?", Outcome.WRONG, "so 4")
    right = row("1 + 2?", Outcome.RIGHT, "so 3", "so 3", "so 4")
    shown = worked([failed, wrong], [failed, right]).plain
    assert "the vote got right and the greedy path wrong:\n1 + 2?\n" in shown
    assert shown.count("A sampled path:") == 2
    assert "Votes:          3: 2, 4: 1" in shown
    assert worked([failed], [failed]).plain == "No question was answered both ways."


def test_a_backend_with_a_model_of_its_own_wants_its_name(tmp_path: Path) -> None:
    """A server does not serve the bundled model unless one says so."""
    done = icl("eval", "sums", "--backend", "openai", "--base-url", "http://127.0.0.1:9/v1", "--out", tmp_path)
    assert done.returncode == 2
    assert "say which model with --model (icl-tiny is the bundled one)" in done.stderr


def test_other_names_stay_as_they_are() -> None:
    """Only the bundled model's name stands for its folder."""
    assert located(NAME) == TINY
    assert located("org/icl-tiny") == "org/icl-tiny"


@pytest.mark.slow
def test_the_model_does_what_its_card_says(tmp_path: Path) -> None:
    """On a hundred held-out questions of each task, within what a hundred may differ from the card's five hundred."""

    def right(way: ways.Way) -> float:
        return sum(row.outcome is Outcome.RIGHT for row in way.asked(tmp_path, 100)[1]) / 100

    direct, chain, vote = right(ways.DIRECT), right(ways.CHAIN), right(ways.VOTE_20)
    assert direct <= 0.15
    assert 0.5 <= chain <= 0.8
    assert vote >= 0.93
    random, nearest = right(ways.RANDOM), right(ways.BM25)
    assert 0.42 <= random <= 0.73
    assert nearest >= 0.97


def test_the_figures_are_two_tables(tmp_path: Path) -> None:
    """One line for each way, and one for each comparison, with intervals."""
    first, second = figures(tmp_path, 4).strip().split("\n\n")
    assert len(first.splitlines()) == 2 + 11
    assert len(second.splitlines()) == 2 + 4
    assert "| sums | self-consistency, 20 paths |" in first


def test_the_wheel_holds_the_model(tmp_path: Path) -> None:
    """Weights, tokenizer and card, in no more than 12 MB."""
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "runs", "tests", "build", "*.egg-info"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        sizes = {info.filename: info.file_size for info in files.infolist()}
    model = {Path(name).name: size for name, size in sizes.items() if name.startswith("icl/tiny/icl-tiny/")}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= set(model)
    assert "icl/tiny/CARD.md" in sizes
    assert sum(model.values()) <= 12e6
