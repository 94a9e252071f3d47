from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from icl import Example
from icl.tiny import TINY
from templates import Template, load_template
from templates.errors import DataError, Diverged, UserError
from templates.soft import Method, Prefix, PrefixTuning, PromptTuning, PTuning, SoftPrompt, Training, train
from templates.soft.frozen import Frozen
from templates.soft.rows import Row, as_batch, epoch, rows_of
from templates.soft.run import Run
from tests.templates.soft.few import FEW, METHODS, some, steps


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_only_the_prompt_learns(method: Method, model: Any, tokenizer: Any, template: Template) -> None:
    """The loss falls, the model's bytes are equal before and after, none of its weights ever has a gradient."""
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    wanted = [weight.requires_grad for weight in model.parameters()]
    frozen = Frozen(model, tokenizer)
    untrained = method.kind(method.module(frozen, template, 0)().detach().numpy(), frozen.base)
    trained = train(method, model, tokenizer, some(16), template, training=replace(FEW, steps=20, schedule="constant"))
    assert loss_with(trained, frozen, template) < loss_with(untrained, frozen, template) - 0.1
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert [weight.requires_grad for weight in model.parameters()] == wanted
    assert all(weight.grad is None for weight in model.parameters())
    assert isinstance(trained, method.kind)
    assert len(trained) == 4


def loss_with(prompt: Any, frozen: Frozen, template: Template) -> float:
    """Of the sixteen examples."""
    placed = template if isinstance(prompt, Prefix) else replace(template, soft=prompt)
    with frozen.held(), torch.no_grad():
        batch = as_batch(rows_of(frozen, placed, some(16), 1024))
        return frozen.loss(batch, torch.tensor(prompt.vectors)).item() / len(batch.targets)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_training_begins_with_what_the_prompt_begins_with(method: Method, model: Any, tokenizer: Any) -> None:
    """Encoders answer zero at first, so the first prompt is made of words, or of keys and values of words."""
    module: Any = method.module(Frozen(model, tokenizer), load_template("labels.v1"), 0)
    assert torch.equal(module(), module.start)


def test_a_loss_that_is_no_number_stops(model: Any, tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """It names the rate and what to lower; the checkpoint of the second step is good."""
    forward, calls = Frozen.loss, 0

    def breaking(*inputs: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(*inputs) * (float("nan") if calls == 4 else 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Frozen, "loss", breaking)
        settings = replace(FEW, rate=0.1)
        with pytest.raises(Diverged, match=r"at step 4 the loss .* is nan; lower the learning rate \(0.1\)"):
            train(PromptTuning(4), model, tokenizer, some(8), template, training=settings, folder=tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["done"] == 2
    assert all(torch.isfinite(part).all() for part in state["module"].values())


def test_accumulated_batches_are_one_large_batch(model: Any, tokenizer: Any, template: Template) -> None:
    """Two batches of four rows a step weigh every answer token as one batch of eight does."""

    def gradient(batch: int, accumulate: int) -> torch.Tensor:
        settings = replace(FEW, batch=batch, accumulate=accumulate, clip=0.0)
        run = new(PromptTuning(4), settings, model, tokenizer, template)
        with run.frozen.held():
            run.step()
        return torch.as_tensor(run.module.change.grad)

    assert torch.allclose(gradient(8, 1), gradient(4, 2), atol=1e-6)


def test_recomputed_activations_change_nothing(
    model: Any, tokenizer: Any, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradient checkpointing: the same prompt, though rows cannot share what they begin with then, and otherwise do."""
    monkeypatch.setattr("templates.soft.rows._AHEAD", 0)
    kept = train(PromptTuning(4), model, tokenizer, some(8), template, training=FEW)
    again = train(PromptTuning(4), model, tokenizer, some(8), template, training=replace(FEW, recompute=True))
    assert torch.allclose(torch.tensor(kept.vectors), torch.tensor(again.vectors), atol=1e-5)


def test_the_best_prompt_on_the_dev_set_comes_back(model: Any, tokenizer: Any, template: Template) -> None:
    """It is the prompt of the step that its notes name, not the last; patience ends what does not get better."""
    settings = replace(FEW, steps=40, rate=3.0, evaluate_every=1, patience=3, clip=0.0, schedule="constant")
    data = (model, tokenizer, some(8), template)
    with steps() as ran:
        found = train(PromptTuning(4), *data, dev=some(6, held_out=True), training=settings)
    best = found.made["steps"]
    assert ran == list(range(1, best + 4))
    assert best < 37
    assert found.made["dev_examples"] == 6
    assert 0 <= found.made["dev"]["score"] <= 1
    until, last = (train(PromptTuning(4), *data, training=replace(settings, steps=step)) for step in (best, best + 3))
    assert found.vectors.tobytes() == until.vectors.tobytes() != last.vectors.tobytes()


@pytest.mark.parametrize("clip", [0.0, 1e-3, 1e6])
def test_long_gradients_are_shortened(clip: float, model: Any, tokenizer: Any, template: Template) -> None:
    """To `clip` over all that learns, in their own direction; shorter ones stay, and with 0 all do."""
    method = PTuning(4)  # its parameters are several

    def gradient(clip: float) -> torch.Tensor:
        run = new(method, replace(FEW, clip=clip), model, tokenizer, template)
        with run.frozen.held():
            run.step()
        return torch.cat([torch.as_tensor(one.grad).flatten() for one in run.module.parameters()])

    whole, found = gradient(0.0), gradient(clip)
    length = min(clip or 1e6, whole.norm().item())
    assert whole.norm() > 1e-2
    assert torch.allclose(found, whole * (length / whole.norm()), rtol=1e-4, atol=1e-9)


def test_each_epoch_has_an_order_of_its_own(
    model: Any, tokenizer: Any, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs of four batches: all rows once in each, no two alike; the seed alone decides."""
    monkeypatch.setattr(Frozen, "loss", lambda _, __, prompt: prompt.sum())

    def order(seed: int) -> list[list[Row]]:
        run, seen = new(PromptTuning(4), replace(FEW, seed=seed), model, tokenizer, template, 16), list[Row]()
        monkeypatch.setattr(Frozen, "batch", lambda _, rows: seen.extend(rows))
        with run.frozen.held():
            for _ in range(12):
                run.step()
        return [seen[:16], seen[16:32], seen[32:]]

    first = order(0)
    assert [len(set(epoch)) for epoch in first] == [16] * 3
    assert set(first[0]) == set(first[1]) == set(first[2])
    assert first[0] != first[1] != first[2] != first[0]
    assert order(0) == first
    assert order(1) != first


def new(method: Any, settings: Training, model: Any, tokenizer: Any, template: Template, size: int = 8) -> Run:
    """A training of a soft prompt that has not begun."""
    frozen = Frozen(model, tokenizer)
    module: Any = method.module(frozen, template, 0)
    placed = replace(template, soft=SoftPrompt(module.start.numpy(), frozen.base))
    return Run(frozen, module, settings, 0.1, rows_of(frozen, placed, some(size), 1024), None)


def test_soft_slots_say_how_many_tokens(model: Any, tokenizer: Any) -> None:
    """Three and four, around the text, whatever the method says; a prefix has no place in slots."""
    template = Template("{soft:3}{text}{soft:4} {answer}")
    trained = train(PTuning(), model, tokenizer, some(8), template, training=FEW)
    assert len(trained) == 7
    replace(template, soft=trained).render({"text": "a"})
    with pytest.raises(UserError, match="trains keys and values, which stand before everything"):
        train(PrefixTuning(), model, tokenizer, some(8), template, training=FEW)


def test_what_cannot_be_trained_is_refused(model: Any, tokenizer: Any, template: Template) -> None:
    """Nothing to learn from, a template that is trained already, numbers that mean nothing, a prompt without room."""
    with pytest.raises(UserError, match="no examples to train on"):
        train(PromptTuning(4), model, tokenizer, [], template)
    done = train(PromptTuning(4), model, tokenizer, some(8), template, training=FEW)
    assert isinstance(done, SoftPrompt)
    with pytest.raises(UserError, match="has a trained prompt already"):
        train(PromptTuning(4), model, tokenizer, some(8), replace(template, soft=done))
    with pytest.raises(UserError, match="tokens ≥ 1, got 0"):
        PromptTuning(0)
    with pytest.raises(UserError, match=r"init is one of labels, .*, got 'label'"):
        PromptTuning(init="label")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="schedule is one of constant, linear, cosine, got 'square'"):
        Training(schedule="square")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="init='text', text="):
        train(PromptTuning(4, init="text"), model, tokenizer, some(8), template)
    with pytest.raises(UserError, match=r"PrefixTuning trains keys and values, which .* \(recompute\) do not take"):
        train(PrefixTuning(4), model, tokenizer, some(8), template, training=replace(FEW, recompute=True))
    with pytest.raises(DataError, match="there is room for 24"):
        train(
            PrefixTuning(1000),
            model,
            tokenizer,
            [Example("x", {"text": "word " * 30}, "dax")],
            load_template("labels.v1"),
        )


def test_losses_are_those_of_peft(model: Any, tokenizer: Any) -> None:
    """Prompt tuning with the same start, batches and optimizer: PEFT's loss, step by step, to 1e-4."""
    peft = pytest.importorskip("peft")
    template, settings = load_template("labels.v1"), Training(steps=8, batch=4, rate=0.2, schedule="constant", clip=0.0)
    frozen = Frozen(model, tokenizer)
    module: Any = PromptTuning(6).module(frozen, template, 0)
    placed = replace(template, soft=SoftPrompt(module.start.numpy(), frozen.base))
    rows = rows_of(frozen, placed, some(32), 1024)
    run = Run(frozen, module, settings, 0.2, rows, None)
    with frozen.held():
        ours = [run.step() for _ in range(settings.steps)]

    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=6)
    theirs_model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(TINY), config)
    weights = theirs_model.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weights.copy_(module.start)
    optimizer = torch.optim.AdamW([weights], weight_decay=0.0)
    theirs = []
    for step, batch in enumerate(epoch(rows, 4, "0/0")):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate_at(step, 0.2) * module.unit[0].item()
        width = max(len(row.tokens) for row in batch) - 6
        texts = [row.tokens[6:] for row in batch]
        masked = [
            [-100] * (len(text) - row.answer) + list(text[-row.answer :])
            for text, row in zip(texts, batch, strict=True)
        ]
        loss = theirs_model(
            input_ids=torch.tensor([[*text, *[0] * (width - len(text))] for text in texts]),
            attention_mask=torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts]),
            labels=torch.tensor([[*row, *[-100] * (width - len(row))] for row in masked]),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        theirs.append(loss.item())
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert ours[-1] != pytest.approx(ours[0], abs=0.1)
