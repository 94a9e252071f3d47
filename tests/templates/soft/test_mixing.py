from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from icl import Example
from templates import Template, Verbalizer
from templates.errors import UserError
from templates.soft import MixedPrompts, PromptTuning, PTuning, PTuningV2, SoftPrompt, Training, train, train_mixture
from templates.soft.dev import Judge
from templates.soft.discrete.scoring import label_scores
from templates.soft.frozen import Frozen
from templates.soft.made import wording
from templates.soft.mixing import judged, mixture_loss
from templates.soft.mixture import Mixture, mixed
from templates.soft.rows import Row
from tests.templates.soft.few import resumed
from tests.templates.soft.test_tasks import FEW, task

ROWS = [Row((0, 0, 40, 41, 50), (0, 1, -1, -1, -1), 1), Row((0, 0, 60, 30, 31), (0, 1, -1, -1, -1), 2)]


def test_the_loss_is_that_of_the_weighed_probability(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights 3/4 and 1/4; the first prompt says 0.8 and 0.5·0.4, the second 0.4 and 0.5·1: -log 0.7 - log 0.275.

    Rows of the second prompt have its soft tokens: two further on.
    """
    frozen, seen = Frozen(model, tokenizer), []

    def losses(_: Any, batch: Any, __: Any) -> torch.Tensor:
        seen.append((batch.soft.tolist(), batch.answers))
        return -torch.log(torch.tensor([0.8, 0.5, 0.4, 0.4, 0.5, 1.0]))

    monkeypatch.setattr(Frozen, "losses", losses)
    loss = mixture_loss(frozen, ROWS, torch.zeros(4, frozen.base.hidden), torch.tensor([0.75, 0.25]).log())
    assert loss.item() == pytest.approx(-np.log(0.7) - np.log(0.275), abs=1e-6)
    soft = [[0, 1, -1, -1]] * 2 + [[2, 3, -1, -1]] * 2
    assert seen == [(soft, [1, 2, 1, 2])]


def test_gradients_are_those_of_the_formula(model: Any, tokenizer: Any) -> None:
    """Against one run for each prompt and each row, with all logits, by transformers alone; for prompts and weights."""
    frozen, generator = Frozen(model, tokenizer), torch.Generator().manual_seed(0)
    start, logits = torch.randn(4, frozen.base.hidden, generator=generator) / 10, torch.tensor([0.3, -0.2])
    prompt, same = start.clone().requires_grad_(), start.clone().requires_grad_()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    def chance(row: Row, its: torch.Tensor) -> torch.Tensor:
        embedded = torch.cat([its, model.get_input_embeddings()(torch.tensor(row.tokens[2:]))])[None]
        said = model(inputs_embeds=embedded).logits[0, -row.answer - 1 : -1].log_softmax(-1)
        return torch.as_tensor(said[torch.arange(row.answer), list(row.tokens[-row.answer :])].sum().exp())

    with frozen.held():
        loss = mixture_loss(frozen, ROWS, prompt, ours.log_softmax(0))
        weights = theirs.softmax(0)
        said = [weights[0] * chance(row, same[:2]) + weights[1] * chance(row, same[2:]) for row in ROWS]
        expected = -torch.log(torch.stack(said)).sum()
        torch.autograd.backward([loss, expected])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)
    for one, other in ((prompt, same), (ours, theirs)):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=1e-4)
    assert all(weight.grad is None for weight in model.parameters())


def test_a_mixture_of_one_is_a_prompt(model: Any, tokenizer: Any) -> None:
    """As prompt tuning trains it, with weight one; on the dev set it is worth as much."""
    one, each = task(3, 8), PromptTuning(4, init="vocabulary")
    data = (model, tokenizer, one.examples, one.template)
    found = train_mixture(MixedPrompts(1, each), *data, dev=one.dev, training=FEW)
    alone = train(each, *data, dev=one.dev, training=FEW)
    assert np.allclose(found.prompts[0].vectors, alone.vectors, atol=1e-5)
    assert found.weights == (1.0,)
    assert found.made["dev"] == pytest.approx(alone.made["dev"], abs=1e-5)


def test_a_mixture_learns(model: Any, tokenizer: Any) -> None:
    """Prompts and weights move; the dev score is that of all prompts' label scores together; the model stays."""
    one = task(3, 32, 12)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    method, frozen = MixedPrompts(3, PromptTuning(4)), Frozen(model, tokenizer)
    data: dict[str, Any] = {"dev": one.examples, "training": Training(steps=40, batch=8, evaluate_every=40)}
    found = train_mixture(method, model, tokenizer, one.examples, one.template, **data)
    first = train_mixture(
        method,
        model,
        tokenizer,
        one.examples,
        one.template,
        dev=one.examples,
        training=Training(steps=1, batch=8, rate=1e-9),
    )
    assert found.made["dev"]["loss"] < first.made["dev"]["loss"] - 0.5
    assert sum(found.weights) == pytest.approx(1)
    assert max(abs(weight - 1 / 3) for weight in found.weights) > 1e-3
    assert len({prompt.digest for prompt in found.prompts}) == 3
    assert one.template.verbalizer is not None
    known = one.template.verbalizer.labels
    scores = [
        label_scores(frozen, [(replace(one.template, soft=prompt), example) for example in one.examples], known)
        for prompt in found.prompts
    ]
    said = mixed(np.stack(scores), found.weights).argmax(1)
    right = [known[number] == example.answer for number, example in zip(said, one.examples, strict=True)]
    assert found.made["dev"]["score"] == sum(right) / len(right)
    own = {
        "method": "MixedPrompts",
        "template": one.template.name,
        "wording": wording(one.template),
    }  # worth and cost are the mixture's
    assert all(prompt.made == own for prompt in found.prompts)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_mixture_is_judged_by_the_weighed_probabilities(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights 9/10 and 1/10; two examples that are both of the first label, by hand.

    The first prompt says (0.8, 0.2) and (0.6, 0.4), the second (0.1, 0.9) and (0.05, 0.95): together (0.73, 0.27) and
    (0.545, 0.455). So both are right, where equal weights would say the second label of both.
    """
    first, second = torch.tensor([[0.8, 0.2], [0.6, 0.4]]), torch.tensor([[0.1, 0.9], [0.05, 0.95]])
    template = Template("{text} {answer}", verbalizer=Verbalizer({"first": ["dax"], "second": ["wug"]}))
    dev = [Example(name, {"text": "a"}, "first") for name in ("1", "2")]
    judge = Judge(Frozen(model, tokenizer), template, dev, 1024, 4)
    said = torch.cat([first, second]).log()[..., None].tolist()  # [J·N, words, tokens]
    monkeypatch.setattr("templates.soft.dev.word_logprobs", lambda *_: said)
    found = judged(judge, torch.zeros(4, 8), torch.tensor([0.9, 0.1]).log())
    assert found.score == 1.0
    assert found.loss == pytest.approx(-(np.log(0.73) + np.log(0.545)) / 2)


def test_all_prompts_of_a_mixture_are_judged_at_once(model: Any, tokenizer: Any) -> None:
    """Each prompt's scores are those of the prompt alone, and rows of all prompts fill the batches."""
    one, runs, run = task(3, 4, 6), list[int](), Frozen.run
    base = Frozen(model, tokenizer).base
    placed = replace(one.template, soft=SoftPrompt(np.zeros((2, base.hidden)), base))
    frozen, prompt = Frozen(model, tokenizer), torch.randn(6, base.hidden, generator=torch.Generator().manual_seed(0))

    def counted(its: Frozen, batch: Any, prompt: Any) -> Any:
        runs.append(len(batch.ids))
        return run(its, batch, prompt)

    judge = Judge(frozen, placed, one.dev, 1024, 9)
    with frozen.held(), torch.no_grad():
        alone = [judge.scores(its) for its in torch.split(prompt, 2)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Frozen, "run", counted)
            together = judge.scores(prompt, 3)
    assert runs == [9, 9]
    for number, its in enumerate(alone):
        for found, expected in zip(together, its, strict=True):
            assert np.allclose(found[number], expected[0], atol=1e-5)


@pytest.mark.parametrize("each", [PromptTuning(4), PTuning(4), PromptTuning(4, init="text", text="a")], ids=str)
def test_prompts_begin_at_different_words(each: Any, model: Any, tokenizer: Any) -> None:
    """However the first one begins; all count the same."""
    module: Any = MixedPrompts(3, each).module(Frozen(model, tokenizer), Template("{text} {answer}"), 0)
    made = module()
    begun = made["prompt"].view(3, 4, -1)
    assert not any(torch.equal(begun[i, t], begun[j, t]) for i in range(3) for j in range(i) for t in range(4))
    assert made["logs"].exp().tolist() == pytest.approx([1 / 3] * 3)


def test_resumed_is_uninterrupted(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """Stopped in its fourth step, started again: the same bits of prompts and weights, and the same notes.

    The best of the dev set is kept as it was, whatever is learnt after it.
    """
    one, method = task(3, 8), MixedPrompts(2, PromptTuning(4))
    data = (model, tokenizer, one.examples, one.template)
    whole = train_mixture(method, *data, dev=one.dev, training=FEW)
    again = resumed(partial(train_mixture, method, *data, dev=one.dev, training=FEW), tmp_path)
    assert isinstance(again, Mixture)
    assert again == whole
    assert again.made == whole.made


def test_what_cannot_be_mixed_is_refused(model: Any, tokenizer: Any) -> None:
    """Keys and values, no prompts; free answers on a dev set, which train without one; scores that are means."""
    with pytest.raises(UserError, match="PTuningV2 trains keys and values"):
        MixedPrompts(2, PTuningV2())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="count ≥ 1, got 0"):
        MixedPrompts(0)
    one = task(3, 4)
    free = (model, tokenizer, one.examples, replace(one.template, verbalizer=None))
    with pytest.raises(UserError, match="has no verbalizer; give it one, or train without a dev set"):
        train_mixture(MixedPrompts(2, PromptTuning(4)), *free, dev=one.dev, training=FEW)
    assert len(train_mixture(MixedPrompts(2, PromptTuning(4)), *free, training=FEW)) == 2
    verbalizer = Verbalizer({label: [label] for label in ("dax", "wug")}, tokens="mean")
    means = (model, tokenizer, one.examples, replace(one.template, verbalizer=verbalizer))
    with pytest.raises(UserError, match="by the mean of their tokens' log-probabilities, which is no label's probab"):
        train_mixture(MixedPrompts(2, PromptTuning(4)), *means, training=FEW)
