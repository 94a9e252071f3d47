"""What a training is known by, and what it does with numbers that are none."""

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from icl.tiny import TINY
from templates import Template
from templates.errors import DataError, Diverged, RunMismatch, StorageError, UserError
from templates.soft import PromptTuning, Training, base_of, checkpoint, train
from templates.soft.baselines import BitFit, finetune
from templates.soft.frozen import Frozen
from templates.soft.recompute import recomputed
from tests.templates.soft.few import FEW, some


def bundled() -> Any:
    """A model that a test may change."""
    return AutoModelForCausalLM.from_pretrained(TINY)


def half(model: Any) -> Any:
    return model.to(torch.bfloat16)


def other_weights(model: Any) -> Any:
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.01)
    return model


@pytest.mark.parametrize("change", [half, other_weights])
def test_another_model_does_not_go_on(
    change: Callable[[Any], Any], tokenizer: Any, template: Template, tmp_path: Path
) -> None:
    """Another type of numbers, or others under the same name, as of a model that was trained on in memory."""
    data = (tokenizer, some(8), template)
    train(PromptTuning(4), bundled(), *data, training=FEW, folder=tmp_path)
    with pytest.raises(RunMismatch, match="is of another training"):
        train(PromptTuning(4), change(bundled()), *data, training=FEW, folder=tmp_path)


def test_models_without_a_name_are_told_apart(tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """Two random models that never were on disk."""
    config = AutoConfig.from_pretrained(TINY)
    for seed, known in enumerate((True, False)):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        data = (PromptTuning(4), model, tokenizer, some(8), template)
        if known:
            train(*data, training=FEW, folder=tmp_path)
        else:
            with pytest.raises(RunMismatch, match="is of another training"):
                train(*data, training=FEW, folder=tmp_path)


def test_a_tuned_model_is_not_what_it_was(tokenizer: Any, template: Template) -> None:
    """A prompt that is trained for a model after its weights were is refused by the model as it was on disk."""
    model = bundled()
    was = base_of(TINY, model.config)
    finetune(BitFit(), model, tokenizer, some(8), template, training=FEW)
    prompt = train(PromptTuning(4), model, tokenizer, some(8), template, training=FEW)
    with pytest.raises(UserError, match=r"trained for '.*icl-tiny with BitFit\(.*and this is"):
        prompt.base.check(was)


def test_what_changes_nothing_does_not_matter(model: Any, tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """How often checkpoints are kept, and whether the method's own rate is named; another rate is another training."""
    data = (PromptTuning(4), model, tokenizer, some(8), template)
    first = train(*data, training=FEW, folder=tmp_path)
    again = replace(FEW, keep_every=3, rate=PromptTuning(4).rate)
    assert train(*data, training=again, folder=tmp_path) == first
    with pytest.raises(
        RunMismatch, match=r"is of another training \(rate: 0\.1 there, 0\.2 here\); choose another folder"
    ):
        train(*data, training=replace(FEW, rate=0.2), folder=tmp_path)


def test_a_gradient_that_is_no_number_is_not_followed(
    model: Any, tokenizer: Any, template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where none is clipped: the loss of step 3 is a number, its gradient not; step 2 is what is kept."""
    forward, calls = Frozen.loss, 0

    def breaking(*inputs: Any) -> Tensor:
        nonlocal calls
        calls += 1
        loss: Tensor = forward(*inputs)
        return loss + (loss * 0).sqrt() if calls == 3 else loss  # the root's slope at 0 is no number

    monkeypatch.setattr(Frozen, "loss", breaking)
    settings = replace(FEW, clip=0.0, keep_every=1)
    with pytest.raises(Diverged, match=r"at step 3 the loss or its gradient is (nan|inf)"):
        train(PromptTuning(4), model, tokenizer, some(8), template, training=settings, folder=tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["done"] == 2
    assert all(torch.isfinite(part).all() for part in state["module"].values())


def test_a_file_that_cannot_grow_is_said(tmp_path: Path) -> None:
    """By the system itself, in the middle of the write: torch has words of its own for it, which nobody understands."""
    checkpoint.keep(tmp_path, {"module": torch.zeros(10)}, {"rate": "1"})
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, was[1]))
    try:
        with pytest.raises(StorageError, match="the last one is untouched: make room"):
            checkpoint.keep(tmp_path, {"module": torch.zeros(100_000)}, {"rate": "1"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    kept = checkpoint.kept(tmp_path, {"rate": "1"})
    assert kept is not None
    assert torch.equal(kept["module"], torch.zeros(10))


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    """A list that torch has written."""
    torch.save([1], tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match="is no checkpoint"):
        checkpoint.kept(tmp_path, {"rate": "1"})


def test_recomputing_leaves_it_as_it_was() -> None:
    """A model whose layers ran again before still does, in the way that it did; another does not."""
    model = bundled()
    with recomputed(model):
        assert model.is_gradient_checkpointing
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable({"use_reentrant": True})
    layers = [layer for layer in model.modules() if "_gradient_checkpointing_func" in vars(layer)]
    own = [layer._gradient_checkpointing_func for layer in layers]
    with recomputed(model):
        assert [layer._gradient_checkpointing_func for layer in layers] != own
    assert model.is_gradient_checkpointing
    assert [layer._gradient_checkpointing_func for layer in layers] == own


@pytest.mark.parametrize("numbers", [{"clip": float("nan")}, {"clip": float("inf")}, {"rate": float("inf")}])
def test_settings_are_numbers(numbers: dict[str, float]) -> None:
    """What is not one would end in a tensor's error, many steps later."""
    with pytest.raises(UserError, match=r"got (nan|inf)"):
        Training(**numbers)  # type: ignore[arg-type]
