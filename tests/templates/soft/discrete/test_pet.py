from dataclasses import replace
from math import e
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from templates import Template, Verbalizer
from templates.errors import UserError
from templates.soft import PromptTuning, Training, train
from templates.soft.discrete.pet import (
    Pattern,
    accuracies,
    classify,
    ensemble,
    pattern_scores,
    soft_labels,
    softened,
    weights_of,
)
from templates.soft.discrete.scoring import label_scores
from templates.soft.families import frozen_of
from templates.soft.frozen import Frozen
from tests.masked import examples

WORDS = Verbalizer({"good": ["good"], "bad": ["bad"]})
KNOWING = Template("review {text} : {answer}", verbalizer=WORDS, name="knowing")
ASTRAY = Template("topic {text} : {answer}", verbalizer=WORDS, name="astray")


@pytest.fixture
def frozen(taught: Path) -> Frozen:
    """Each architecture."""
    return frozen_of(AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught))


def test_the_ensemble_by_hand() -> None:
    """Weights 3 and 1: (3·(2, 0) + 1·(-2, 4)) / 4 = (1, 1); a weight of zero silences a pattern."""
    scores = np.array([[[2.0, 0.0]], [[-2.0, 4.0]]])
    assert ensemble(scores, [3, 1]).tolist() == [[1.0, 1.0]]
    assert ensemble(scores, [1, 1]).tolist() == [[0.0, 2.0]]
    assert ensemble(scores, [0, 0.7]).tolist() == [[-2.0, 4.0]]
    for wrong in ([1], [0, 0], [2, -1]):
        with pytest.raises(UserError, match="2 patterns have a weight each"):
            ensemble(scores, wrong)


def test_soft_labels_by_hand() -> None:
    """Scores 2 and 0 at T = 2: e/(e + 1) and 1/(e + 1); at T = 1 they are further apart; a shift changes nothing."""
    assert softened(np.array([[2.0, 0.0]]))[0].tolist() == pytest.approx([e / (e + 1), 1 / (e + 1)])
    assert softened(np.array([[2.0, 0.0]]), 1.0)[0, 0] == pytest.approx(e**2 / (e**2 + 1))
    assert softened(np.array([[-998.0, -1000.0]]))[0, 0] == pytest.approx(e / (e + 1))
    with pytest.raises(UserError, match="a temperature is positive, got 0"):
        softened(np.zeros((1, 2)), 0)


def test_accuracies_by_hand() -> None:
    """The first pattern is right on both examples, the second on one."""
    assert accuracies(np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]]), [0, 1]) == [1.0, 0.5]


def test_patterns_count_as_much_as_they_know(frozen: Frozen) -> None:
    """One asks for the task that the model knows, one for another: the first is always right; three to one it wins."""
    patterns, some = [Pattern(frozen, KNOWING), Pattern(frozen, ASTRAY)], examples("review")
    known, astray = weights_of(patterns, some)
    assert known == 1.0
    assert astray < 0.9
    assert weights_of(patterns, some, by="uniform") == [1.0, 1.0]
    assert classify(patterns, some, [1, 0]) == [example.answer for example in some]
    found = soft_labels(patterns, some, [known, astray])
    assert found.shape == (len(some), 2)
    assert found.sum(1) == pytest.approx(1.0)
    scores = pattern_scores(patterns, some)
    assert found == pytest.approx(softened((scores[0] * known + scores[1] * astray) / (known + astray)))
    assert classify(patterns, some, [known, astray]) == [WORDS.labels[n] for n in found.argmax(1)]


def test_patterns_of_one_model_run_together(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two patterns, eight examples: 16 rows, each read for both words, are a batch; scores are those of each alone."""
    sizes, hidden = list[int](), Frozen.hidden

    def counted(its: Frozen, batch: Any, prompt: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch.ids))
        return hidden(its, batch, prompt)

    monkeypatch.setattr(Frozen, "hidden", counted)
    patterns, some = [Pattern(frozen, KNOWING), Pattern(frozen, ASTRAY)], examples("review")[:8]
    scores = pattern_scores(patterns, some)
    assert sizes == [16]
    for its, pattern in zip(scores, patterns, strict=True):
        alone = label_scores(frozen, [(pattern.template, example) for example in some], WORDS.labels)
        assert its == pytest.approx(alone, abs=1e-5)


def test_labels_keep_the_first_patterns_order(frozen: Frozen) -> None:
    """A verbalizer with the labels the other way round gives the same scores."""
    turned = replace(KNOWING, verbalizer=Verbalizer({"bad": ["bad"], "good": ["good"]}))
    scores = pattern_scores([Pattern(frozen, KNOWING), Pattern(frozen, turned)], examples("review")[:4])
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_trained_patterns_are_patterns(taught: Path, frozen: Frozen) -> None:
    """A prompt that was trained with a pattern makes it know the task."""
    plain = Template("{text} : {answer}", verbalizer=WORDS)
    model, some = AutoModelForMaskedLM.from_pretrained(taught), examples("review")
    prompt = train(
        PromptTuning(4), model, frozen.tokenizer, some[::2], plain, training=Training(steps=60, batch=16, warmup=5)
    )
    trained = replace(plain, soft=prompt)
    patterns = [Pattern(frozen, trained), Pattern(frozen, KNOWING)]
    assert np.mean([a == b.answer for a, b in zip(classify(patterns, some), some, strict=True)]) > 0.9
    own = pattern_scores(patterns[:1], some)
    assert torch.tensor(own).log_softmax(2).max(2).values.mean() > -0.2


def test_what_is_no_ensemble_is_refused(frozen: Frozen) -> None:
    """No pattern, no verbalizer, other labels, an example with another label."""
    with pytest.raises(UserError, match="at least one pattern"):
        classify([], [])
    with pytest.raises(UserError, match="template 'bare' has no verbalizer"):
        classify([Pattern(frozen, Template("{text} {answer}", name="bare"))], examples("review"))
    other = Pattern(frozen, replace(ASTRAY, verbalizer=Verbalizer({"one": ["one"]})))
    with pytest.raises(UserError, match=r"'astray' has the labels \['one'\] and the first one \['good', 'bad'\]"):
        classify([Pattern(frozen, KNOWING), other], examples("review"))
    with pytest.raises(UserError, match="'topic/0' has the label 'one'"):
        weights_of([Pattern(frozen, KNOWING)], examples("topic"))
