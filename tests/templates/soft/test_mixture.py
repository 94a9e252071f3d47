import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from templates.errors import DataError, UserError
from templates.soft import Base, Mixture, Prefix, SoftPrompt, mixed

BASE = Base("some/model", 2, hidden=8, heads=2, kv_heads=1, head_size=4)


def prompt(seed: int, base: Base = BASE) -> SoftPrompt:
    return SoftPrompt(np.random.default_rng(seed).normal(size=(3, 8)), base, {"method": "PromptTuning"})


def test_probabilities_are_weighed() -> None:
    """3/4 of (0.8, 0.2) and 1/4 of (0.4, 0.6) are (0.7, 0.3); a prompt of weight zero does not count."""
    scores = np.log([[0.8, 0.2], [0.4, 0.6]])
    assert np.exp(mixed(scores, [0.75, 0.25])).tolist() == pytest.approx([0.7, 0.3])
    assert np.exp(mixed(scores, [0.0, 1.0])).tolist() == pytest.approx([0.4, 0.6])


def test_weighing_takes_any_shape_and_any_size() -> None:
    """Prompts first, then whatever there is; scores that no float could hold as probabilities stay finite."""
    scores = np.full((2, 5, 3), -1e4)
    assert mixed(scores, [0.5, 0.5]).shape == (5, 3)
    assert np.allclose(mixed(scores, [0.5, 0.5]), -1e4)


def test_saved_is_loaded(tmp_path: Path) -> None:
    """The same numbers and notes; each prompt is a folder in PEFT's format; saving again replaces."""
    mixture = Mixture([prompt(0), prompt(1)], [0.25, 0.75], {"steps": 3})
    mixture.save(tmp_path / "m")
    found = Mixture.load(mixture.save(tmp_path / "m"))
    assert found == mixture
    assert found.made == {"steps": 3}
    assert (found.weights, len(found)) == ((0.25, 0.75), 2)
    assert SoftPrompt.load(tmp_path / "m" / "1") == prompt(1)
    assert sorted(path.name for path in (tmp_path / "m").rglob("*") if path.is_file()) == sorted(
        ["icl_mixture.json", *["adapter_config.json", "adapter_model.safetensors", "icl_prompt.json"] * 2]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert Mixture([prompt(0)], [1.0]).save(tmp_path / "m") == tmp_path / "m"
    assert len(Mixture.load(tmp_path / "m")) == 1
    assert not (tmp_path / "m" / "1").exists()


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "has weights None; a mixture's are a list of numbers"),
        ('{"weights": ["0.5", "0.5"]}', "a list of numbers"),
        ('{"weights": [true, false]}', "a list of numbers"),
        ('{"weights": []}', "a weight for each prompt, got 0 and 0"),
        ('{"weights": [0.5, 0.4]}', "of sum one"),
        ('{"weights": [1.5, -0.5]}', "none below zero"),
        (f'{{"weights": [1{"0" * 400}, 0]}}', "is not a mixture: int too large"),
        ('{"weights": [NaN, 1.0]}', "none below zero"),
        ('{"weights": [1.0, NaN]}', "of sum one"),
        ('{"weights": [0.5, 0.5], "made": 3}', "has made 3"),
        ('{"weights": [0.25, 0.25, 0.5]}', r"2/adapter_config\.json cannot be read"),
    ],
)
def test_broken_folders_are_refused(said: str, match: str, tmp_path: Path) -> None:
    """Weights that are none, and prompts that are not there."""
    Mixture([prompt(0), prompt(1)], [0.25, 0.75]).save(tmp_path / "m")
    (tmp_path / "m" / "icl_mixture.json").write_text(said)
    with pytest.raises(DataError, match=match):
        Mixture.load(tmp_path / "m")


def test_a_model_that_has_moved_is_named(tmp_path: Path) -> None:
    """`base` is the name of the model for all prompts, as when one is loaded."""
    folder = Mixture([prompt(0), prompt(1)], [0.25, 0.75]).save(tmp_path / "m")
    found = Mixture.load(folder, base="org/renamed")
    assert {one.base.name for one in found.prompts} == {"org/renamed"}
    assert found == Mixture.load(folder)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """No folder, a single prompt, a prompt with pickled weights, prompts of another kind or for several models."""
    with pytest.raises(DataError, match=r"has no icl_mixture\.json"):
        Mixture.load(tmp_path / "nothing")
    with pytest.raises(DataError, match="a single prompt is a SoftPrompt's"):
        Mixture.load(prompt(0).save(tmp_path / "p"))
    folder = Mixture([prompt(0), prompt(1)], [0.25, 0.75]).save(tmp_path / "m")
    prompt(1, Base("other/model", 2, hidden=8)).save(folder / "1")
    with pytest.raises(DataError, match=r"is not a mixture: .* for one model, got \['other/model', 'some/model'\]"):
        Mixture.load(folder)
    Prefix(np.zeros((1, 16)), BASE).save(folder / "1")
    with pytest.raises(UserError, match="holds a Prefix, not a SoftPrompt"):
        Mixture.load(folder)
    (folder / "0" / "adapter_model.safetensors").rename(folder / "0" / "adapter_model.bin")
    with pytest.raises(DataError, match="save it again as safetensors"):
        Mixture.load(folder)


@pytest.mark.parametrize("weights", [[0.5], [0.5, 0.6], [2.0, -1.0]])
def test_weights_are_a_distribution_over_the_prompts(weights: Any) -> None:
    """As many as prompts, none below zero, of sum one."""
    with pytest.raises(UserError, match="a mixture"):
        Mixture([prompt(0), prompt(1)], weights)
    assert json.dumps(list(Mixture([prompt(0), prompt(1)], [0.5, 0.5]).weights)) == "[0.5, 0.5]"
