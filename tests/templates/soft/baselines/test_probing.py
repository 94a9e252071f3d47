from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eval.worlds import labels
from icl import Example
from templates import Template, Verbalizer, load_template
from templates.errors import DataError, UserError
from templates.soft.baselines import LinearProbe, Probe, probe
from templates.soft.batches import states
from templates.soft.frozen import Frozen
from templates.soft.regression import regression
from templates.soft.rows import rows_of
from tests.templates.soft.few import some


@pytest.fixture(scope="module")
def template() -> Template:
    words = sorted(set(labels.Episode(3).meaning.values()))
    return replace(load_template("labels.v1"), verbalizer=Verbalizer({word: [f"{word} {word}"] for word in words}))


def test_the_worked_example() -> None:
    """Four states of ±1 and two labels: by symmetry weights ±a and no bias, where 4·σ(-2a) = strength·a.

    Both sides are slopes, of the loss and of the penalty; a is ½ for strength 8·σ(-1) = 8/(1 + e).
    """
    seen, known = np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.array([1, 0, 1, 0])
    weights, bias = regression(seen, known, 2, 8 / (1 + np.e))
    assert weights == pytest.approx(np.array([[-0.5], [0.5]]), abs=1e-6)
    assert bias == pytest.approx(np.zeros(2), abs=1e-6)


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_probabilities_are_those_of_scikit_learn(strength: float) -> None:
    """On the states that it standardises itself, to 1e-4; features that never change do no harm."""
    linear = pytest.importorskip("sklearn.linear_model")
    random = np.random.default_rng(0)
    seen, known = random.normal(3, 5, (60, 7)), random.integers(0, 3, 60)
    seen[:, 4] = 2.0
    weights, bias = regression(seen, known, 3, strength)
    spread = np.where(seen.std(0) > 0, seen.std(0), 1.0)
    scaled = (seen - seen.mean(0)) / spread
    theirs = linear.LogisticRegression(C=1 / strength, max_iter=5000, tol=1e-8).fit(scaled, known)
    ours = np.exp(seen @ weights.T + bias)
    assert ours / ours.sum(1, keepdims=True) == pytest.approx(theirs.predict_proba(scaled), abs=1e-4)


def test_states_are_those_of_the_prompts_last_token(model: Any, tokenizer: Any, template: Template) -> None:
    """What transformers calls the last hidden state, row by row, whatever the answer and its length."""
    frozen, examples = Frozen(model, tokenizer), some(5)
    found = states(frozen, rows_of(frozen, template, examples, 1024), None, 2)
    for example, state in zip(examples, found, strict=True):
        ids = tokenizer.encode(template.prompt(example.fields))
        with torch.no_grad():
            alone = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
        assert state == pytest.approx(alone.numpy(), abs=1e-4)


def test_a_probe_is_saved_and_classifies(model: Any, tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """Held-out examples are right far above chance; what is loaded says the same; the model's bytes are untouched."""
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    dev = some(40, held_out=True)
    found = probe(LinearProbe(), model, tokenizer, some(200), template, dev=dev)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    again = Probe.load(found.save(tmp_path / "probe"))
    blank = [replace(example, answer=None) for example in dev]
    said = again.classify(model, tokenizer, blank, template)
    right = np.mean([one == example.answer for one, example in zip(said, dev, strict=True)])
    assert right == found.made["dev"]["score"] == again.made["dev"]["score"] > 0.6
    assert again.made["weights"] == 4 * 128 + 4
    assert again.made["strength"] in LinearProbe().strengths
    assert sorted(path.name for path in (tmp_path / "probe").iterdir()) == ["icl_tuned.json", "probe.safetensors"]


def test_what_cannot_be_probed_is_refused(model: Any, tokenizer: Any, template: Template, tmp_path: Path) -> None:
    """No labels, an unknown one, a strength of nothing, another model, files that are not a probe's."""
    with pytest.raises(UserError, match=r"tells labels apart, and template 'labels.v1' has none"):
        probe(LinearProbe(), model, tokenizer, some(4), load_template("labels.v1"))
    with pytest.raises(DataError, match="'x' has the label 'none'"):
        probe(LinearProbe(), model, tokenizer, [Example("x", {"text": "a"}, "none")], template)
    with pytest.raises(UserError, match="needs strengths > 0"):
        LinearProbe((0.0,))
    found = probe(LinearProbe(), model, tokenizer, some(8), template)
    assert "dev" not in found.made
    other = replace(found, base=replace(found.base, hidden=64))
    with pytest.raises(UserError, match="was trained for"):
        other.classify(model, tokenizer, some(2), template)
    found.save(tmp_path / "probe")
    file = tmp_path / "probe" / "probe.safetensors"
    for name, dtype, message in (("bias", torch.float32, "is not a probe's"), ("weights", torch.bfloat16, "bfloat16")):
        save_file({name: torch.ones(4, 128, dtype=dtype)}, file)
        with pytest.raises(DataError, match=rf"probe\.safetensors .*{message}"):
            Probe.load(tmp_path / "probe")
    file.write_bytes(b"no tensors")
    with pytest.raises(DataError, match=r"probe\.safetensors cannot be read .*; save it again"):
        Probe.load(tmp_path / "probe")
