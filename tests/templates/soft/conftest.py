"""Tiny models that fill in masks, taught two tasks that a word before a phrase chooses between."""

from pathlib import Path

import pytest

from tests.masked import KINDS, make_masked, teach


@pytest.fixture(scope="session", params=KINDS)
def taught(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny taught model of one architecture."""
    return teach(make_masked(request.param, tmp_path_factory.mktemp("masked") / request.param))
