from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from templates.soft.frozen import Frozen
from templates.soft.rows import Row, as_batch
from tests.shapes import GROUPED

ROWS = [
    Row((0, 40, 41, 42, 50, 51), (-1,) * 6, 2),
    Row((0, 60, 30), (-1,) * 3, 1),
    Row((0, 33, 44, 55, 66, 77, 88, 20, 21, 22), (-1,) * 10, 4),
]


def with_soft(row: Row, place: int, tokens: int) -> Row:
    """The row with soft tokens from `place` on."""
    return Row(
        (*row.tokens[:place], *[0] * tokens, *row.tokens[place:]),
        (*row.soft[:place], *range(tokens), *row.soft[place:]),
        row.answer,
    )


def plain(model: Any, row: Row, prompt: Tensor, *, prefix: bool) -> Tensor:
    """The distributions over the row's answer tokens by transformers alone, [tokens, V]: one row, all logits."""
    embedded = model.get_input_embeddings()(torch.tensor([row.tokens]))
    for place, number in enumerate(row.soft):
        if number >= 0:
            embedded = torch.cat([embedded[:, :place], prompt[None, None, number], embedded[:, place + 1 :]], 1)
    cache = Frozen(model, None).cache(prompt, 1) if prefix else None
    logits = model(inputs_embeds=embedded, past_key_values=cache).logits[0]
    return torch.as_tensor(logits.log_softmax(-1)[-row.answer - 1 : -1])


def chances(distributions: Tensor, row: Row) -> Tensor:
    """Of the row's own answer."""
    return distributions.gather(1, torch.tensor(row.tokens[-row.answer :])[:, None])[:, 0]


@pytest.fixture
def frozen(shape: Path) -> Iterator[Frozen]:
    """A model of each architecture."""
    model = AutoModelForCausalLM.from_pretrained(shape, dtype=torch.float32)
    frozen = Frozen(model, AutoTokenizer.from_pretrained(shape))
    with frozen.held():
        yield frozen


@pytest.mark.parametrize("where", ["front", "between", "keys and values"])
def test_loss_and_gradient_are_those_of_all_logits(frozen: Frozen, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of three lengths in one batch, two answer tokens' logits at a time, against row by row with every logit."""
    monkeypatch.setattr("templates.soft.losses._LOGITS", 2 * len(frozen.embeddings))
    rows = ROWS if where == "keys and values" else [with_soft(row, 0 if where == "front" else 2, 4) for row in ROWS]
    check_loss_and_gradient(frozen, rows, prefix=where == "keys and values")


@pytest.mark.parametrize("where", ["front", "between", "keys and values"])
def test_what_all_rows_begin_with_runs_once(frozen: Frozen, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soft tokens and words before each question: loss and gradient are those of rows that run one by one."""
    monkeypatch.setattr("templates.soft.rows._AHEAD", 0)
    prefix = where == "keys and values"
    led = [Row((0, 25, 26, *row.tokens[1:]), (-1, -1, *row.soft), row.answer) for row in ROWS]
    rows = led if prefix else [with_soft(row, 0 if where == "front" else 3, 4) for row in led]
    batch, ran = frozen.batch(rows), list[tuple[int, ...]]()
    handle = frozen.model.base_model.register_forward_pre_hook(
        lambda _, __, inputs: ran.append(tuple(inputs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    frozen.hidden(batch, None if prefix else torch.zeros(4, frozen.base.hidden))
    handle.remove()
    width, shared = max(len(row.tokens) for row in rows) - 1, 3 if prefix else 7
    assert ran == [(1, shared), (3, width - shared)]
    check_loss_and_gradient(frozen, rows, prefix=prefix)


def check_loss_and_gradient(frozen: Frozen, rows: list[Row], *, prefix: bool) -> None:
    """Both against transformers alone, row by row."""
    base = frozen.base
    width = base.layers * 2 * base.kv_heads * base.head_size if prefix else base.hidden
    start = torch.tensor(np.random.default_rng(0).normal(size=(4, width)), dtype=torch.float32)
    prompt, same = start.clone().requires_grad_(), start.clone().requires_grad_()
    loss = frozen.loss(frozen.batch(rows), prompt)
    expected = -torch.cat([chances(plain(frozen.model, row, same, prefix=prefix), row) for row in rows]).sum()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)
    torch.autograd.backward([loss * 0.5, expected * 0.5])
    assert prompt.grad is not None
    assert same.grad is not None
    assert torch.allclose(prompt.grad, same.grad, atol=1e-4)
    assert all(weight.grad is None for weight in frozen.model.parameters())


def test_log_probabilities_come_row_by_row(frozen: Frozen) -> None:
    """In the order of the rows; a token is marked where it is the most likely one: the first row is made so."""
    prompt = torch.zeros(4, frozen.base.hidden)
    rows = [with_soft(row, 1, 4) for row in ROWS]
    with torch.no_grad():
        likeliest = plain(frozen.model, rows[0], prompt, prefix=False)[0].argmax().item()
        rows[0] = Row((*rows[0].tokens[:-2], int(likeliest), rows[0].tokens[-1]), rows[0].soft, 2)
        for row, found in zip(rows, frozen.logprobs(as_batch(rows), prompt), strict=True):
            alone = plain(frozen.model, row, prompt, prefix=False)
            assert torch.allclose(found[0], chances(alone, row), atol=1e-5)
            assert found[1].tolist() == (alone.argmax(-1) == torch.tensor(row.tokens[-row.answer :])).tolist()
        assert frozen.logprobs(as_batch(rows), prompt)[0][1][0] == 1


@pytest.mark.parametrize("kind", ["gemma2", "granite", "cohere"])
def test_logits_are_the_models_own(kind: str) -> None:
    """Models that cap or scale their logits do so here too."""
    own: dict[str, dict[str, Any]] = {"gemma2": {"final_logit_softcapping": 2.0}, "granite": {"logits_scaling": 3.0}}
    config = AutoConfig.for_model(
        kind,
        num_hidden_layers=2,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        vocab_size=100,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        **own.get(kind, {"logit_scale": 0.1}),
    )
    torch.manual_seed(0)
    frozen = Frozen(AutoModelForCausalLM.from_config(config), None)
    with frozen.held(), torch.no_grad():
        batch = as_batch(ROWS)
        found = frozen.logits(_hidden(frozen, batch))
        expected = [frozen.model(torch.tensor([row.tokens[:-1]])).logits[0, -row.answer :] for row in ROWS]
    assert torch.allclose(found, torch.cat(expected), atol=1e-5)


def _hidden(frozen: Frozen, batch: Any) -> Tensor:
    """As for a prefix of no tokens."""
    frozen.__dict__["_cache"] = lambda *_: None
    return frozen.hidden(batch, torch.zeros(0, 1))


def test_afterwards_all_is_as_it_was(shape: Path) -> None:
    """Training mode and wanted gradients come back, part by part; within, nothing is trained or dropped."""
    model = AutoModelForCausalLM.from_pretrained(shape)
    model.train()
    model.get_input_embeddings().eval()
    model.get_input_embeddings().weight.requires_grad = False
    before = [(module.training) for module in model.modules()], [p.requires_grad for p in model.parameters()]
    with Frozen(model, None).held(recompute=True):
        assert not any(weight.requires_grad for weight in model.parameters())
    with Frozen(model, None).held():
        assert not any(module.training for module in model.modules())
    assert before == ([module.training for module in model.modules()], [p.requires_grad for p in model.parameters()])
    assert not model.is_gradient_checkpointing


def test_each_tokens_loss_can_be_weighed(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven tokens count 1, 2, … 7, two tokens' logits at a time: losses and gradient are those of all logits."""
    monkeypatch.setattr("templates.soft.losses._LOGITS", 2 * len(frozen.embeddings))
    start = torch.tensor(np.random.default_rng(0).normal(size=(4, frozen.base.hidden)), dtype=torch.float32)
    rows = [with_soft(row, 0, 4) for row in ROWS]
    prompt, same = start.clone().requires_grad_(), start.clone().requires_grad_()
    losses = frozen.losses(as_batch(rows), prompt)
    expected = -torch.cat([chances(plain(frozen.model, row, same, prefix=False), row) for row in rows])
    assert torch.allclose(losses, expected, atol=1e-4)
    counts = torch.arange(1.0, 8.0)
    torch.autograd.backward([losses @ counts, expected @ counts])
    assert prompt.grad is not None
    assert same.grad is not None
    assert torch.allclose(prompt.grad, same.grad, atol=1e-3)


def test_an_output_layer_that_learns_wants_the_sum(frozen: Frozen) -> None:
    """Its gradient is kept for all tokens together, so that tokens of different weights are refused, not confused."""
    learning = list(frozen.model.get_output_embeddings().parameters())
    with frozen.held(learning=learning), pytest.raises(RuntimeError, match="learn from the sum of all tokens' losses"):
        torch.autograd.backward([frozen.losses(as_batch(ROWS), None) @ torch.arange(1.0, 8.0)])


SCALING = {
    "granite": {"logits_scaling": 4.0},
    "gemma2": {"final_logit_softcapping": 3.0},
    "cohere": {"logit_scale": 0.1},
}


@pytest.mark.parametrize("kind", ["llama", *SCALING])
def test_logits_are_those_of_the_model_however_it_makes_them(kind: str) -> None:
    """Scaled and capped ones are left to the model; plain ones are the output layer's, and the model does not run."""
    config = AutoConfig.for_model(kind, vocab_size=64, pad_token_id=0, **GROUPED, **SCALING.get(kind, {}))
    frozen = Frozen(AutoModelForCausalLM.from_config(config).eval(), None)
    ids = torch.tensor([[5, 6, 7]])
    with frozen.held(), torch.no_grad():
        batch = as_batch([Row((5, 6, 7, 8), (-1,) * 4, 3)])
        wanted, found = frozen.model(ids).logits[0], frozen.logits(frozen.hidden(batch, None))
        assert torch.allclose(found, wanted, atol=1e-5)
        runs: list[Any] = []
        handle = frozen.model.register_forward_hook(lambda *_: runs.append(1))
        frozen.logits(frozen.hidden(batch, None))
        handle.remove()
    assert len(runs) == (1 if kind == "llama" else 2)
