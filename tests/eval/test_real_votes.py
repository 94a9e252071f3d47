import gzip
import json
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cot.votes import maj_curve
from templates.answers import number, same_answer
from tests.eval.command import icl, report, rows

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
pytestmark = [pytest.mark.data, pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data")]


def real_outputs() -> dict[str, list[str]]:
    """Question -> the texts of all models that answered all of GSM8K's test questions, in the order of their names."""
    with (DATA / "gsm8k" / "test.jsonl").open() as file:
        questions = [json.loads(line)["question"] for line in file]
    texts: dict[str, list[str]] = {question: [] for question in questions}
    for path in sorted((DATA / "outputs" / "gsm8k_models").glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as file:
            outputs = {int(row["id"].rsplit("#", 1)[1]): row["output"] for row in map(json.loads, file)}
        if len(outputs) == len(questions):
            for i, question in enumerate(questions):
                texts[question].append(outputs[i])
    return texts


def test_replayed_votes_rise_and_their_ends_are_direct_counts(tmp_path: Path) -> None:
    """Self-consistency over real texts, one of each model: a rising curve; maj@1 and maj@n are what counting gives."""
    saved = real_outputs()
    (tmp_path / "outputs.jsonl").write_text(
        "".join(json.dumps({"question": q, "completions": texts}) + "\n" for q, texts in saved.items())
    )
    n = len(next(iter(saved.values())))
    asked = ("eval", "gsm8k", "--data", DATA / "gsm8k" / "test.jsonl", "--chat", "-k", 0, "--samples", n)
    replayed = ("--backend", "replay", "--backend-arg", "by=question", "--model", tmp_path / "outputs.jsonl")
    done = icl(*asked, *replayed, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    found = report(tmp_path / "run")
    curve = [point["accuracy"] for point in found["curve"]]

    gold = [row["gold"] for row in rows(tmp_path / "run")]
    read = [[number(text) for text in texts] for texts in saved.values()]
    singles = np.mean([[same_answer(a, g) for a in answers] for answers, g in zip(read, gold, strict=True)])
    winners = [Counter(a for a in answers if a is not None).most_common(1)[0][0] for answers in read]
    majority = np.mean([same_answer(winner, g) for winner, g in zip(winners, gold, strict=True)])

    assert n == 21
    assert curve[0] == pytest.approx(singles)
    assert curve[-1] == pytest.approx(majority) == found["accuracy"]["value"]
    assert 0.86 < curve[0] < 0.90
    assert curve[-1] > 0.96
    assert all(later >= earlier - 0.002 for earlier, later in pairwise(curve))


def test_stored_vote_counts_give_their_published_majority() -> None:
    """Eight samples of a small model for 1,255 questions, as vote counts: the majority of 8 is right in 43.98 %."""
    with gzip.open(DATA / "samples" / "gsm8k_votes_m8.jsonl.gz", "rt") as file:
        saved = [json.loads(line) for line in file]
    curves = []
    for row in saved:
        votes = [answer for answer, count in row["answer_distribution"].items() for _ in range(count)]
        unread: list[str | None] = [None] * (row["n_samples"] - len(votes))
        curves.append(maj_curve(votes + unread, partial(same_answer, row["gold_answer"])))
    mean = np.mean(curves, axis=0)
    assert mean[-1] == pytest.approx(0.4398, abs=0.0005)
    assert (np.diff(mean) > 0).sum() >= 5
    assert mean[0] < mean[-1] - 0.05
