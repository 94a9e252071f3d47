from pathlib import Path

import pytest

from eval.config import Part, PipelineConfig
from eval.registry import build
from icl.backends import Cached
from templates.errors import DataError, UserError


def test_the_seed_reaches_selector_and_orderer(tmp_path: Path) -> None:
    """`--seed` is of all random choices; a part's own seed wins."""
    parts = {"selector": Part(name="random"), "orderer": Part(name="shuffled", seed=3), "demos": "math.demos.v1"}
    pipeline, _ = PipelineConfig(model="m", template="math.cot.v1", seed=7, **parts).build(tmp_path / "x")
    assert (pipeline.seed, pipeline.selector.seed, pipeline.orderer.seed) == (7, 7, 3)  # type: ignore[union-attr, attr-defined]


def test_saved_outputs_are_not_saved_again(tmp_path: Path) -> None:
    """Replay hands its samples out by order, so a cache of an earlier process would mix them up."""
    (tmp_path / "saved.jsonl").write_text('{"prompt": "a", "completions": ["b"]}\n')
    config = PipelineConfig(model=str(tmp_path / "saved.jsonl"), backend=Part(name="replay"), template="math.cot.v1")
    assert not isinstance(config.build(tmp_path / "x")[0].lm, Cached)


def test_a_key_has_no_place_in_a_file() -> None:
    """It would end in the run folder."""
    with pytest.raises(UserError, match="set OPENAI_API_KEY in the environment"):
        PipelineConfig(model="m", template="math.cot.v1", backend=Part(name="openai", api_key="secret"))


def test_parameters_of_the_wrong_type_are_named() -> None:
    """Text where a number belongs is a user's mistake, not a traceback."""
    with pytest.raises(UserError, match=r"strategy 'self-consistency': n is of type int, got '4'"):
        build("strategies", "self-consistency", n="4")


def test_no_demonstrations_are_read_for_none() -> None:
    """With k = 0 neither the file of a pool nor the task's own examples, which may fit another template."""
    parts = {"selector": Part(name="random"), "pool": "nowhere.jsonl", "template": "math.cot.v1"}
    assert list(PipelineConfig(model="m", k=0, **parts).examples()) == []
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        PipelineConfig(model="m", k=1, **parts).examples()
