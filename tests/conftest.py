"""What is slow to make is made once for the whole session: a tiny model, and an engine with it."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.served import served
from tests.shapes import SHAPES, make_shape
from tests.tiny import make_tiny

if TYPE_CHECKING:
    from icl.backends import VLLM

os.environ["HF_HUB_OFFLINE"] = "1"  # no test waits for a hub
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait do not spin: machines are shared
settings.register_profile("unhurried", deadline=None)  # machines are shared: time is measured in bench/, not in tests
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with a context of 2048 tokens."""
    return make_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session", params=SHAPES)
def shape(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model of one architecture."""
    return make_shape(request.param, tiny_model, tmp_path_factory.mktemp("shapes") / request.param)


@pytest.fixture(scope="session")
def engine(tiny_model: Path) -> "Iterator[VLLM]":
    """The real vLLM engine with the tiny model, in float32."""
    from icl.backends import VLLM

    lm = VLLM(str(tiny_model), dtype="float32", enforce_eager=True, block_size=32, soft_prompts=True)
    yield lm
    asyncio.run(lm.aclose())


@pytest.fixture(scope="session")
def url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of vLLM's real server with the tiny model, which it calls "tiny"."""
    with served(tiny_model, tmp_path_factory.mktemp("served")) as address:
        yield address


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Vectors that tests compute stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
