import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.soft import load_prompt, with_prompt
from templates import Template
from templates.errors import DataError, Unsupported
from templates.soft import Base, Mixture, Prefix, SoftPrompt
from templates.soft.baselines.folder import Notes, write_notes
from templates.soft.gated import GatedPrompt
from templates.soft.heads import Classifier
from templates.soft.made import wording

BASE = Base("org/model", 2, hidden=4, heads=2, kv_heads=1, head_size=2)
TOLD = Template("Review: {text} {answer}", name="told.v1")


def saved(path: Path, made: dict[str, Any]) -> str:
    """The folder of a prompt with these notes."""
    return str(SoftPrompt(np.ones((2, 4)), BASE, made).save(path))


def test_a_prompt_that_was_trained_with_another_template_is_used_and_said(tmp_path: Path) -> None:
    """One line with both names and what to do."""
    prompt = saved(tmp_path / "p", {"template": "learnt.v1"})
    with pytest.warns(UserWarning, match="trained with template 'learnt.v1', and .* 'told.v1'; .* with --template"):
        template = with_prompt(TOLD, prompt)
    assert template.soft == SoftPrompt.load(prompt)


def test_a_template_of_the_same_name_that_says_something_else_is_said(tmp_path: Path) -> None:
    """What was changed, as it was and as it is; another name for the same words goes without saying."""
    prompt = saved(
        tmp_path / "p", {"template": "told.v1", "wording": wording(replace(TOLD, text="Is it {text}? {answer}"))}
    )
    with pytest.warns(UserWarning, match=r"trained with text 'Is it {text}\? {answer}', and this run has 'Review: "):
        with_prompt(TOLD, prompt)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_prompt(
            replace(TOLD, name="new.v2"), saved(tmp_path / "q", {"template": "told.v1", "wording": wording(TOLD)})
        )


@pytest.mark.parametrize("made", [{"template": "told.v1"}, {"template": "learnt.v1, told.v1"}, {}, {"template": 3}])
def test_its_own_template_goes_without_saying(made: dict[str, Any], tmp_path: Path) -> None:
    """The same one, one of several tasks', or one that nobody knows."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_prompt(TOLD, saved(tmp_path / "p", made)).soft is not None


def test_what_stands_in_no_prompt_is_refused(tmp_path: Path) -> None:
    """A classifier is no prefix, an adapter and a mixture no prompt: each says who runs it."""
    prefix, head = Prefix(np.ones((3, 8)), BASE), (np.ones((2, 4), np.float32), np.ones(2, np.float32))
    classifier = Classifier(prefix, *head, ("no", "yes")).save(tmp_path / "c")
    with pytest.raises(Unsupported, match=r"c holds a classifier .* Classifier\.load"):
        load_prompt(str(classifier))
    adapter = GatedPrompt(np.ones((2, 5, 4)), np.zeros((2, 1)), BASE).save(tmp_path / "a")
    with pytest.raises(Unsupported, match=r"a is a LLaMA-Adapter's, .* GatedPrompt\.load"):
        load_prompt(str(adapter))
    mixture = Mixture([SoftPrompt(np.ones((2, 4)), BASE)] * 2, [0.5, 0.5]).save(tmp_path / "m")
    with pytest.raises(Unsupported, match=r"m holds a mixture .* icl\.mixture"):
        load_prompt(str(mixture))
    (tmp_path / "tuned").mkdir()
    write_notes(Notes("adapter", BASE, {}), tmp_path / "tuned")
    with pytest.raises(Unsupported, match=r"tuned holds a tuned model.* --model .*tuned/merged"):
        load_prompt(str(tmp_path / "tuned"))
    with pytest.raises(DataError, match=r"no folder .*none; `icl prompts` lists"):
        load_prompt(str(tmp_path / "none"))
