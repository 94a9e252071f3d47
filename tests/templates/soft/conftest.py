"""The bundled model with one episode of labels, and tiny masked models that were taught two tasks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl.tiny import TINY
from templates import Template, Verbalizer, load_template
from tests.masked import KINDS, make_masked, teach
from tests.templates.soft.few import EPISODE


@pytest.fixture(scope="session")
def model() -> Any:
    """The bundled model, whose weights nothing may change."""
    return AutoModelForCausalLM.from_pretrained(TINY)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Of the bundled model."""
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="session")
def template() -> Template:
    """Asks for the labels of `EPISODE`."""
    words = sorted(set(EPISODE.meaning.values()))
    return replace(load_template("labels.v1"), verbalizer=Verbalizer({word: [word] for word in words}))


@pytest.fixture(scope="session", params=KINDS)
def taught(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny taught masked model of one architecture.

    A word before a phrase chooses between its two tasks.
    """
    return teach(make_masked(request.param, tmp_path_factory.mktemp("masked") / request.param))
