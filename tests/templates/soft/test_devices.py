import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from icl.tiny import NAME
from templates.soft import SoftPrompt
from templates.soft.devices import Devices, devices
from templates.soft.rows import Row
from tests.eval.command import line

WORDS = ("tune", "prompt-tuning", "--task", "labels", "--labels", "data", "--limit", 56, "--batch", 6, "--steps", 10)


def test_every_row_is_one_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three share seven rows: three, two and two of them, each some short and some long ones; alone, one has all."""
    rows = [Row((0,) * size, (-1,) * size, 1) for size in (9, 2, 7, 4, 3, 8, 5)]
    shares = [[len(row.tokens) for row in Devices(3, rank).share(rows)] for rank in range(3)]
    assert shares == [[2, 5, 9], [3, 7], [4, 8]]
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert devices() == Devices()
    assert len(devices().share(rows)) == 7


def test_two_devices_find_what_one_finds(tmp_path: Path) -> None:
    """Two processes: the same prompt but for rounding, written and shown once.

    Of an epoch's last batch, one row, a process has nothing.
    """
    pytest.importorskip("accelerate")
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "eval"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    said = {}
    for name, start in (("one", []), ("two", together)):
        command = [*(start or line(())), *map(str, WORDS), "--out", str(tmp_path / name), "--model", NAME]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        said[name] = done.stdout
    one, two = (SoftPrompt.load(tmp_path / name) for name in ("one", "two"))
    assert one != two  # sums of other parts
    assert np.abs(one.vectors - two.vectors).max() < 1e-4
    assert one.made["dev"]["loss"] == pytest.approx(two.made["dev"]["loss"], abs=1e-4)
    assert said["two"].count("icl eval labels") == 1
