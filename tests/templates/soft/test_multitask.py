from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from icl.tiny import TINY
from templates import Template
from templates.errors import UserError
from templates.soft import Multitask, PromptTuning, PTuning, PTuningV2, SoftPrompt, Training, train_multitask
from templates.soft.frozen import Frozen
from templates.soft.modules import Factored
from templates.soft.tasks import Lessons, joint
from tests.templates.soft.few import resumed
from tests.templates.soft.test_tasks import FEW, task


class Given(nn.Module):
    """A prompt that is there."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self) -> Tensor:
        """[P, H]."""
        return self.rows * 1


def test_a_prompt_is_the_shared_one_times_its_factors() -> None:
    """P* = [[1, 2], [3, 4]], u = (1, 2), v = (1, -1): [[1, -2], [6, -8]] by hand; the other task keeps P*."""
    module = Factored(Given([[1.0, 2.0], [3.0, 4.0]]), tasks=2, rank=1, seed=0)
    with torch.no_grad():
        module.u[1] = torch.tensor([[1.0], [2.0]])
        module.v[1] = torch.tensor([[1.0, -1.0]])
    assert module().tolist() == [[1.0, 2.0], [3.0, 4.0], [1.0, -2.0], [6.0, -8.0]]


@pytest.mark.parametrize("rank", [1, 3])
def test_all_tasks_begin_with_the_shared_prompt(rank: int, model: Any, tokenizer: Any) -> None:
    """Factors are one at first, to the bit; of a higher rank every part can learn and no two learn the same."""
    frozen, method = Frozen(model, tokenizer), Multitask(PTuning(4), rank)
    template = Template("{text} {answer}")
    module: Any = method.module(frozen, template, 7, 2)
    shared: Any = method.shared.module(frozen, template, 7)
    assert torch.equal(module(), torch.cat([shared(), shared()]))
    (module() ** 2).sum().backward()
    parts = [module.u.grad[0, :, part] for part in range(rank)]
    assert all(part.abs().sum() > 0 for part in parts)
    assert not any(torch.allclose(parts[0], part) for part in parts[1:])


def test_prompts_are_those_of_peft(model: Any, tokenizer: Any) -> None:
    """Its multitask embedding, given the same numbers, gives the same prompts for both tasks."""
    peft = pytest.importorskip("peft")
    module: Any = Multitask(PromptTuning(4), 2).module(Frozen(model, tokenizer), Template("{text} {answer}"), 0, 2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for factor in (module.u, module.v):
            factor.copy_(torch.randn(factor.shape, generator=generator))
    config = peft.MultitaskPromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, num_tasks=2, num_ranks=2, prompt_tuning_init="RANDOM"
    )
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(TINY), config).prompt_encoder["default"]
    with torch.no_grad():
        theirs.embedding.weight.copy_(module.shared())
        theirs.prefix_task_cols.copy_(module.u)
        theirs.prefix_task_rows.copy_(module.v)
        found = theirs(torch.arange(4).expand(2, -1), torch.tensor([0, 1]))
    assert torch.allclose(found.flatten(0, 1), module(), atol=1e-6)


def test_two_tasks_of_the_same_words_learn_apart(model: Any, tokenizer: Any) -> None:
    """Nothing but the prompt tells the tasks apart; both get better. Only prompts learn; each says what it is for."""
    tasks = [task(3, 48, 24), task(4, 48, 24)]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    method, settings, frozen = Multitask(PromptTuning(4)), Training(steps=60, batch=8), Frozen(model, tokenizer)
    found = train_multitask(method, model, tokenizer, tasks, training=settings)
    begun: Any = method.module(frozen, joint(tasks), 0, 2)
    lessons = Lessons(method, frozen, tasks, 4, settings)
    first = lessons.devs(begun().detach())
    last = lessons.devs(torch.cat([torch.tensor(found[one.name].vectors) for one in tasks]))
    for one in tasks:
        prompt = found[one.name]
        assert isinstance(prompt, SoftPrompt)
        assert last[one.name].loss < first[one.name].loss - 0.4
        assert prompt.made["dev"]["loss"] == pytest.approx(last[one.name].loss)
        assert (prompt.made["template"], prompt.made["examples"]) == (one.template.name, 48)
        assert prompt.made["together"] == ["3", "4"]
    swapped = lessons.devs(torch.cat([torch.tensor(found[one.name].vectors) for one in reversed(tasks)]))
    assert all(swapped[one.name].loss > last[one.name].loss + 0.4 for one in tasks)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_resumed_is_uninterrupted(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """Stopped in its fourth step, started again: the same bits, and the same notes."""
    tasks, method = [task(3, 8), task(4, 8)], Multitask(PromptTuning(4), rank=2)
    whole = train_multitask(method, model, tokenizer, tasks, training=FEW)
    again = resumed(partial(train_multitask, method, model, tokenizer, tasks, training=FEW), tmp_path)
    for name, prompt in whole.items():
        assert again[name].vectors.tobytes() == prompt.vectors.tobytes()
        assert again[name].made == prompt.made


def test_what_cannot_be_shared_is_refused(model: Any, tokenizer: Any) -> None:
    """A task alone, keys and values, no rank."""
    with pytest.raises(UserError, match="'3' is alone; use train"):
        train_multitask(Multitask(), model, tokenizer, [task(3, 4)], training=replace(FEW, steps=1))
    with pytest.raises(UserError, match="PTuningV2 trains keys and values"):
        Multitask(PTuningV2())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="rank ≥ 1, got 0"):
        Multitask(rank=0)
