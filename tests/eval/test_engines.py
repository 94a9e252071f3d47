import json
from pathlib import Path

import pytest

from icl.tiny import NAME, TINY
from tests.eval.command import icl, questions, report, rows
from tests.served import served

pytest.importorskip("vllm")
pytestmark = pytest.mark.engine

POOL = [
    {
        "question": f"A crate holds {i} boxes of {i + 2} jars. How many jars?",
        "rationale": f"{i} * {i + 2} = {i * (i + 2)}.",
        "answer": str(i * (i + 2)),
    }
    for i in range(3, 40)
]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples to select from."""
    path = tmp_path_factory.mktemp("pool") / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in POOL))
    return path


def test_the_whole_way_on_three_engines(tmp_path: Path, pool: Path, tiny_model: Path, url: str) -> None:
    """kNN demonstrations, greedy chain of thought: vLLM in-process, its server and transformers give the same texts.

    And self-consistency runs from the command line to the vote curve on the in-process engine and on the server.
    """
    data = questions(tmp_path / "test.jsonl", 8)
    shared = ("eval", "gsm8k", "--data", data, "--pool", pool, "--selector", "knn", "-k", 3, "--max-tokens", 24)
    engines: dict[str, tuple[object, ...]] = {
        "vllm": ("--model", tiny_model, "--backend-arg", "dtype=float32", "--backend-arg", "enforce_eager=true"),
        "openai": ("--model", "tiny", "--base-url", url),
        "transformers": ("--model", tiny_model, "--backend-arg", "dtype=float32"),
    }
    texts = {}
    for name, words in engines.items():
        done = icl(*shared, "--backend", name, *words, "--strategy", "few-shot-cot", "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        texts[name] = [(row["completions"], row["answer"], row["demos"]) for row in rows(tmp_path / name)]
    assert texts["vllm"] == texts["openai"] == texts["transformers"]
    assert len(texts["vllm"]) == 8

    for name in ("vllm", "openai"):
        voted = ("--strategy", "self-consistency", "--samples", 10, "--out", tmp_path / f"{name}-votes")
        done = icl(*shared, "--backend", name, *engines[name], *voted)
        assert done.returncode == 0, done.stderr
        assert len(report(tmp_path / f"{name}-votes")["curve"]) == 10
    sampled = [[row["completions"] for row in rows(tmp_path / f"{name}-votes")] for name in ("vllm", "openai")]
    assert sampled[0] == sampled[1]


def test_the_bundled_model_says_the_same_on_three_engines(tmp_path: Path) -> None:
    """Greedy chains of thought and labels of the same prompts, in float32: equal texts, token for token."""
    with served(TINY, tmp_path, context=1024) as url:
        engines: dict[str, tuple[object, ...]] = {
            "vllm": ("--model", NAME, "--backend-arg", "dtype=float32", "--backend-arg", "enforce_eager=true"),
            "openai": ("--model", "tiny", "--base-url", url),
            "transformers": ("--model", NAME, "--backend-arg", "dtype=float32"),
        }
        for task, *words in (("sums", "--strategy", "few-shot-cot", "--max-tokens", 80), ("labels", "--max-tokens", 8)):
            texts = {}
            for name, model in engines.items():
                out = tmp_path / f"{task}-{name}"
                done = icl("eval", task, *words, "--limit", 12, "--backend", name, *model, "--out", out)
                assert done.returncode == 0, done.stderr
                texts[name] = [row["completions"] for row in rows(out)]
            assert texts["vllm"] == texts["openai"] == texts["transformers"]
            assert len(texts["vllm"]) == 12
