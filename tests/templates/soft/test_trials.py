from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl.tiny import TINY
from templates import Verbalizer, load_template
from templates.errors import Diverged, UserError
from templates.soft import PrefixTuning, PromptTuning, PTuning, Training
from templates.soft.dev import Dev
from templates.soft.trials import Trial, beginnings, best_first, run_trials
from tests.templates.soft.few import some

LABELS = replace(load_template("labels.v1"), verbalizer=Verbalizer({word: [word] for word in ("dax", "wug")}))


def test_what_a_prompt_may_begin_with() -> None:
    """Its own beginning first; labels where there are some, a text where one is given; never noise."""
    plain = load_template("labels.v1")
    assert beginnings(PromptTuning(), LABELS) == [PromptTuning(), PromptTuning(init="vocabulary")]
    assert beginnings(PTuning(init="vocabulary"), plain) == [PTuning(init="vocabulary")]
    assert beginnings(PromptTuning(), plain) == [PromptTuning(init="vocabulary")], "which is what it begins with there"
    told = PrefixTuning(init="vocabulary", text="Say it:")
    assert beginnings(told, LABELS) == [told, replace(told, init="text")]
    assert beginnings(PromptTuning(init="uniform"), plain)[0].inits == ("labels", "vocabulary", "text", "uniform")


def test_the_best_is_the_highest_score_then_the_lowest_loss() -> None:
    """Of three trials with 50, 75 and 75 %, the one of the two latter with the lower loss."""
    devs = {1: Dev(0.5, 0.1), 2: Dev(0.75, 0.9), 3: Dev(0.75, 0.8)}
    trials = [Trial(PromptTuning(), rate, dev) for rate, dev in devs.items()]
    assert [trial.rate for trial in best_first(trials)] == [3, 2, 1]


def test_three_rates_for_each_beginning(tmp_path: Path) -> None:
    """Around the method's own rate, or the one that is named; asked again, nothing is trained again."""
    settings = Training(steps=2, batch=4, rate=0.1)
    first = tried(settings, tmp_path)
    assert sorted(trial.rate for trial in first) == pytest.approx([0.03, 0.1, 0.3])
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.pt")}
    assert len(kept) == 3
    assert tried(settings, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.pt")} == kept


def test_without_a_dev_set_nothing_can_be_compared() -> None:
    """It says so before it trains."""
    with pytest.raises(UserError, match="there is none; give one, or choose rate and init"):
        run_trials(PromptTuning(), None, None, some(2), load_template("labels.v1"), dev=[], training=Training())


def tried(settings: Training, folder: Path) -> list[Trial]:
    """A probe of what begins with sampled words."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY), AutoTokenizer.from_pretrained(TINY)
    method = PromptTuning(tokens=3, init="vocabulary")
    data = (model, tokenizer, some(8), load_template("labels.v1"))
    return run_trials(method, *data, dev=some(4, held_out=True), training=settings, folder=folder)


def test_a_trial_that_diverges_comes_last() -> None:
    """The highest rate's loss is no number: the others are compared; where all are so, it is said."""

    def loop(*_: Any, training: Training, **__: Any) -> Any:
        if training.rate and training.rate > limit:
            raise Diverged(f"at rate {training.rate}")
        return SimpleNamespace(made={"dev": {"score": 0.5, "loss": training.rate}})

    data: Any = (None, None, [], load_template("labels.v1"))
    limit = 0.2
    trials = run_trials(PromptTuning(init="vocabulary"), *data, dev=some(2), training=Training(rate=0.1), loop=loop)
    assert [trial.dev and trial.dev.loss for trial in trials] == [pytest.approx(0.03), pytest.approx(0.1), None]
    limit = 0.0
    with pytest.raises(Diverged, match=r"at rate 0\.03"):
        run_trials(PromptTuning(init="vocabulary"), *data, dev=some(2), training=Training(rate=0.1), loop=loop)
