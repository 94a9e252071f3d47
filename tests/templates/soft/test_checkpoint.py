import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from templates import Template, load_template
from templates.errors import RunMismatch, StorageError
from templates.soft import Method, PromptTuning, SoftPrompt, Training, train
from templates.soft.dev import Dev
from templates.soft.frozen import Frozen
from templates.soft.rows import rows_of
from templates.soft.run import Run
from tests.templates.soft.few import FEW, METHODS, resumed, some, steps


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_resumed_is_uninterrupted(
    method: Method, optimizer: Any, model: Any, tokenizer: Any, template: Template, tmp_path: Path
) -> None:
    """Stopped in its fourth step, started again: the same bits, and the same notes."""
    settings = replace(FEW, steps=6, optimizer=optimizer, schedule="cosine")
    data: dict[str, Any] = {"dev": some(6, held_out=True), "training": settings}
    whole = train(method, model, tokenizer, some(16), template, **data)
    again = resumed(partial(train, method, model, tokenizer, some(16), template, **data), tmp_path)
    assert again.vectors.tobytes() == whole.vectors.tobytes()
    assert again.made == whole.made


@pytest.mark.parametrize(("best", "patience"), [(2, 0), (1, 3)])
def test_the_best_and_the_waiting_outlast_an_interruption(
    best: int, patience: int, model: Any, tokenizer: Any, template: Template, tmp_path: Path
) -> None:
    """Every step is looked at, a checkpoint is of the second, the third is interrupted.

    The best look is the second, and its prompt comes back. Or it is the first, and three looks are waited: one before
    the interruption and two after it, so that the fourth step is the last.
    """
    frozen = Frozen(model, tokenizer)
    settings = replace(FEW, steps=6, evaluate_every=1, patience=patience)

    def run() -> Run:
        module: Any = PromptTuning(4).module(frozen, template, 0)
        placed = replace(template, soft=SoftPrompt(module.start.numpy(), frozen.base))
        rows = rows_of(frozen, placed, some(8), 1024)
        return Run(frozen, module, settings, 0.1, rows, lambda **_: Dev(float(made.done == best), 1.0))

    with frozen.held(), steps(stop=3) as ran:
        made = run()
        with pytest.raises(KeyboardInterrupt):
            made.finish(tmp_path, "one", ())
        made = run()
        made.finish(tmp_path, "one", ())
        last = best + patience if patience else settings.steps
        assert ran == [1, 2, 3, *range(3, last + 1)]
        assert (made.found_at, made.found_dev) == (best, Dev(1.0, 1.0))
        found, until = made.found()["prompt"], run()
        while until.done < best:
            until.step()
    assert torch.equal(found, until.module())


def test_another_training_is_not_continued(model: Any, tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """Other settings, other data, another dev set, or other words for labels, in the same folder."""
    train(PromptTuning(4), model, tokenizer, some(8), template, training=FEW, folder=tmp_path)
    for method, examples in ((PromptTuning(5), some(8)), (PromptTuning(4), some(9))):
        with pytest.raises(RunMismatch, match="is of another training"):
            train(method, model, tokenizer, examples, template, training=FEW, folder=tmp_path)
    assert template.verbalizer
    worded = replace(template, verbalizer=replace(template.verbalizer, tokens="mean"))
    for other, dev in ((template, some(4)), (worded, [])):
        with pytest.raises(RunMismatch, match="is of another training"):
            train(PromptTuning(4), model, tokenizer, some(8), other, dev=dev, training=FEW, folder=tmp_path)


def test_killed_in_a_checkpoint_the_one_before_is_good(tmp_path: Path, model: Any, tokenizer: Any) -> None:
    """`kill -9` while half a checkpoint is written; the training goes on, and ends as one that was never killed."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import sys, time, torch
        from eval.worlds import labels
        from icl.tiny import TINY
        from templates import load_template
        from templates.soft import PromptTuning, Training, train
        from transformers import AutoModelForCausalLM, AutoTokenizer
        torch.set_num_threads(1)
        save, count = torch.save, 0
        def half(state, file):
            global count
            count += 1
            if count == 3:
                file.write(b"PK half a checkpoint"); file.flush()
                print("writing", flush=True); time.sleep(600)
            save(state, file)
        torch.save = half
        train(PromptTuning(4), AutoModelForCausalLM.from_pretrained(TINY), AutoTokenizer.from_pretrained(TINY),
            list(labels.split(3, 16, held_out=False)), load_template("labels.v1"),
            training=Training(steps=8, batch=4, keep_every=2), folder=sys.argv[1])
        """)
    )
    command = [sys.executable, str(program), str(tmp_path / "run")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["done"] == 4
    settings, threads = Training(steps=8, batch=4, keep_every=2), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = (model, tokenizer, some(16), load_template("labels.v1"))
        with steps() as ran:
            again = train(PromptTuning(4), *data, training=settings, folder=tmp_path / "run")
        whole = train(PromptTuning(4), *data, training=settings)
    finally:
        torch.set_num_threads(threads)
    assert ran == [5, 6, 7, 8]
    assert again == whole


def test_a_full_disk_leaves_the_last_checkpoint(
    model: Any, tokenizer: Any, template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second checkpoint cannot be written: the error says so, and the first one is as it was."""

    def full(_: Any, file: Any) -> None:
        if (tmp_path / "checkpoint.pt").exists():
            raise OSError(28, "No space left on device")
        save(_, file)

    save = torch.save
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"No space left.*the last one is untouched"):
        train(PromptTuning(4), model, tokenizer, some(8), template, training=FEW, folder=tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["done"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
