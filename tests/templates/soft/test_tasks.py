from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eval.worlds import labels
from icl import Example
from templates import Template, Verbalizer
from templates.errors import UserError
from templates.soft import (
    Method,
    PrefixTuning,
    PromptTuning,
    PTuning,
    PTuningV2,
    SoftPrompt,
    Task,
    Training,
    train,
    train_together,
)
from templates.soft.dev import Dev
from templates.soft.frozen import Frozen
from templates.soft.rows import Row
from templates.soft.tasks import Lessons, joint
from tests.templates.soft.few import resumed

FEW = Training(steps=6, batch=4, warmup=1, evaluate_every=2, keep_every=2, schedule="cosine")


def task(seed: int, size: int, dev: int = 6, text: str = "{text} {answer}") -> Task:
    """An episode of its own: the topics are those of all, and stand for other words."""
    words = sorted(set(labels.Episode(seed).meaning.values()))
    template = Template(text, verbalizer=Verbalizer({word: [word] for word in words}), name=f"episode-{seed}")
    judged = labels.split(seed, dev, held_out=True) if dev else ()
    return Task(str(seed), template, labels.split(seed, size, held_out=False), judged)


@pytest.mark.parametrize("method", [PromptTuning(4), PTuning(4), PTuningV2(4)], ids=str)
def test_one_prompt_learns_two_tasks(method: Method, model: Any, tokenizer: Any) -> None:
    """The same topics stand for other words in each; told apart by their templates, both get better.

    The model's bytes stay, and none of its weights gets a gradient.
    """
    told = [task(3, 32, 0, "first: {text} {answer}"), task(4, 32, 0, "second: {text} {answer}")]
    tasks = [replace(one, dev=one.examples) for one in told]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    settings = Training(steps=60, batch=8, evaluate_every=60)
    frozen = Frozen(model, tokenizer)
    begun: Any = method.module(frozen, joint(tasks), 0)()
    lessons = Lessons(method, frozen, tasks, 4, settings)
    found = train_together(method, model, tokenizer, tasks, training=settings)
    for name, dev in lessons.devs(begun.detach()).items():
        assert found.made["tasks"][name]["dev"]["loss"] < dev.loss - 0.1
    assert isinstance(found, method.kind)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_the_notes_name_the_tasks(model: Any, tokenizer: Any) -> None:
    """Each one's template, examples and dev score, which are those of the prompt; the whole's is their mean.

    Tasks count the same: six and three examples of which all and none are right are one half. One without a dev set
    does not count.
    """
    tasks = [task(3, 8, 6), task(4, 12, 3), task(5, 4, 0)]
    found = train_together(PromptTuning(4), model, tokenizer, tasks, training=FEW)
    made = found.made
    assert (made["examples"], made["dev_examples"]) == (24, 9)
    assert made["template"] == "episode-3, episode-4, episode-5"
    own = made["tasks"]
    assert {name: its["examples"] for name, its in own.items()} == {"3": 8, "4": 12, "5": 4}
    assert "dev" not in own["5"]
    assert made["dev"]["score"] == pytest.approx((own["3"]["dev"]["score"] + own["4"]["dev"]["score"]) / 2)
    assert made["dev"]["loss"] == pytest.approx((own["3"]["dev"]["loss"] + own["4"]["dev"]["loss"]) / 2)
    assert Dev.mean([Dev(1.0, 2.0), Dev(0.0, 1.0)]) == Dev(0.5, 1.5)


def test_one_task_is_train(model: Any, tokenizer: Any) -> None:
    """The same numbers and the same notes."""
    one = task(3, 8)
    together = train_together(PTuning(4), model, tokenizer, [one], training=FEW)
    alone = train(PTuning(4), model, tokenizer, one.examples, one.template, dev=one.dev, training=FEW)
    assert together == alone
    assert together.made == alone.made


@pytest.mark.parametrize("method", [PromptTuning(4), PrefixTuning(4)], ids=str)
def test_resumed_is_uninterrupted(method: Method, model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """Stopped in its fourth step, started again: the same bits, and the same notes."""
    tasks = [task(3, 8), task(4, 8)]
    whole = train_together(method, model, tokenizer, tasks, training=FEW)
    again = resumed(partial(train_together, method, model, tokenizer, tasks, training=FEW), tmp_path)
    assert again.vectors.tobytes() == whole.vectors.tobytes()
    assert again.made == whole.made


def test_rows_of_all_tasks_meet_in_the_batches(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch has every row once, and a batch has rows of both tasks."""
    tasks = [task(3, 8, 0), task(4, 8, 0)]
    seen: list[list[Row]] = []

    def whole(rows: list[Row]) -> list[list[Row]]:
        seen.append(rows)
        return [rows]

    monkeypatch.setattr("templates.soft.run.groups", whole)
    train_together(PromptTuning(4), model, tokenizer, tasks, training=replace(FEW, steps=2, batch=8))
    lessons = Lessons(PromptTuning(4), Frozen(model, tokenizer), tasks, 4, FEW)
    first, second = (set(its) for its in lessons.rows)
    assert {row for rows in seen for row in rows} == first | second
    assert all(set(rows) & first and set(rows) & second for rows in seen)


def test_soft_tokens_are_renumbered() -> None:
    """Those of the third prompt of four tokens each begin with number eight; text stays text."""
    row = Row((0, 0, 7, 8), (0, 1, -1, -1), 1)
    assert row.moved(8) == Row((0, 0, 7, 8), (8, 9, -1, -1), 1)


def test_a_shared_prompt_begins_with_the_words_of_all_tasks(model: Any, tokenizer: Any) -> None:
    """Of labels that both have, the word comes once; slots of one template are slots for all."""
    first = Template("{text} {answer}", verbalizer=Verbalizer({"a": ["dax", "wug"], "b": ["fep"]}))
    second = Template("{soft:3}{text} {answer}", verbalizer=Verbalizer({"c": ["fep"], "d": ["mib"]}))
    tasks = [
        Task("first", first, [Example("1", {"text": "some pan"}, "a")]),
        Task("second", second, [Example("2", {"text": "some pan"}, "c")]),
    ]
    found = joint(tasks)
    assert found.verbalizer is not None
    assert found.verbalizer.labels == ("dax", "fep", "mib")
    module: Any = PromptTuning(20).module(Frozen(model, tokenizer), found, 0)
    embedded = model.get_input_embeddings().weight
    ids = [tokenizer.encode(f" {word}", add_special_tokens=False) for word in ("dax", "fep", "mib")]
    assert torch.allclose(module(), torch.stack([embedded[its].mean(0) for its in ids]))
    trained = train_together(PromptTuning(20), model, tokenizer, tasks, training=FEW)
    assert len(trained) == 3


def test_tasks_that_do_not_go_together_are_refused(model: Any, tokenizer: Any) -> None:
    """None, two of one name, one without examples, one that is trained already, slots of different sizes."""
    one, two = task(3, 4, 0), task(4, 4, 0)
    base = Frozen(model, tokenizer).base
    done = replace(two.template, soft=SoftPrompt(np.zeros((2, base.hidden)), base))
    slotted = [
        replace(one, template=Template("{soft:2}{text} {answer}")),
        replace(two, template=Template("{soft:3}{text} {answer}")),
    ]
    for tasks, said in (
        ([], "no tasks to train on"),
        ([one, one], r"names of their own, got \['3', '3'\]"),
        ([one, replace(two, examples=())], "no examples to train on for '4'"),
        ([one, replace(two, template=done)], "has a trained prompt already"),
        (slotted, r"these take \[2, 3\] tokens"),
    ):
        with pytest.raises(UserError, match=said):
            train_together(PromptTuning(4), model, tokenizer, tasks, training=FEW)
    with pytest.raises(UserError, match="trains keys and values, which stand before everything"):
        train_together(PTuningV2(4), model, tokenizer, [one, slotted[1]], training=FEW)
