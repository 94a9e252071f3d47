"""The command line as a user starts it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def questions(path: Path, count: int) -> Path:
    """A file of `count` questions in GSM8K's own form."""
    rows = ({"question": f"What is {i} + {i}?", "answer": f"Double.\n#### {2 * i}"} for i in range(1, count + 1))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def icl(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `icl` to its end."""
    return subprocess.run(line(words), capture_output=True, text=True, check=False, env=os.environ | environment)


def started(*words: object) -> "subprocess.Popen[str]":
    """Start `icl` and go on; Ctrl-C reaches it even from a shell's background, where it is ignored."""
    held = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(line(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, held)


def line(words: tuple[object, ...]) -> list[str]:
    """The whole command."""
    return [sys.executable, "-m", "eval", *map(str, words)]


def rows(folder: Path) -> list[dict[str, Any]]:
    """What a run folder has for each question."""
    return [json.loads(row) for row in (folder / "rows.jsonl").read_text().splitlines()]


def report(folder: Path) -> dict[str, Any]:
    """A run folder's report."""
    loaded: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return loaded
