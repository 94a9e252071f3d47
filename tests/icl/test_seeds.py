import subprocess
import sys

from icl.seeds import generator, seed_for


def test_a_seed_belongs_to_its_item() -> None:
    """Other seed, other name, names cut otherwise: other numbers; all leave room for 2**30 samples in 31 bits."""
    seeds = {seed_for(0, "a"), seed_for(1, "a"), seed_for(0, "b"), seed_for(0, "a", "b"), seed_for(0, "ab")}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**30 for seed in seeds)


def test_a_seed_is_the_same_in_every_process() -> None:
    """It does not depend on the interpreter's hash seed."""
    code = "from icl.seeds import seed_for; print(seed_for(7, 'gsm8k/3'))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{seed_for(7, 'gsm8k/3')}\n"}


def test_generators_repeat() -> None:
    """The same item draws the same numbers."""
    assert generator(0, "a").random() == generator(0, "a").random()
