from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from icl.tiny import TINY
from templates import load_template
from templates.soft import PrefixTuning, PTuning
from templates.soft.baselines import LoRA
from templates.soft.frozen import Frozen
from templates.soft.modules import drawn


def test_what_is_drawn_comes_from_the_seed() -> None:
    """The numbers of a generator of that seed; within another draw, too."""
    with drawn(3), drawn(7):
        found = torch.randn(3)
    assert torch.equal(found, torch.randn(3, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("method", [PTuning(4, encoder="lstm"), PTuning(4), PrefixTuning(4), LoRA(2)], ids=str)
def test_the_user_s_generators_stay_as_they_were(
    method: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the CPU is put back; those of GPUs are never seeded. Twice the same is drawn."""

    def seeded(_: int) -> None:
        raise AssertionError("the generators of all GPUs were seeded")

    def weights() -> list[torch.Tensor]:
        if not isinstance(method, LoRA):
            return list(method.module(Frozen(model, tokenizer), load_template("labels.v1"), 5).parameters())
        pytest.importorskip("peft")
        return list(method.begin(AutoModelForCausalLM.from_pretrained(TINY), 5).weights)

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    before = torch.get_rng_state()
    first = weights()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, other) for one, other in zip(first, weights(), strict=True))
