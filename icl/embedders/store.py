"""Vectors on disk: what one process encoded, no other encodes again."""

import sqlite3
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np

from icl.vectors import Array

T = TypeVar("T")

_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
_AT_ONCE = 500  # keys in one question; SQLite takes at least 999
_WAIT = 60.0  # seconds for another process that is writing


class VectorStore:
    """The vectors of one model, in an SQLite file that many models and processes share.

    A vector is there whole or not at all: each write is one transaction. The file has a plain rollback journal and not
    a write-ahead log, which needs memory shared between processes and so does not work in home folders on a network.
    A file that cannot be read or written costs time, not results: the user is told, and the run goes on without.

    Args:
        path: of the file; made where it is not there.
        model: what the vectors depend on besides the text.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.path, self.model = path, model
        self._broken = False

    def read(self, texts: Sequence[str]) -> dict[str, Array]:
        """The vectors of those texts that are known."""
        by_key = {self._key(text): text for text in texts}
        keys = list(by_key)

        def work(db: sqlite3.Connection) -> dict[str, Array]:
            known: dict[str, Array] = {}
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = db.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some)  # noqa: S608 - only marks
                known |= {by_key[key]: np.frombuffer(vector, dtype="<f4") for key, vector in rows}
            return known

        return self._with(work, {})

    def write(self, vectors: Mapping[str, Array]) -> None:
        """Add these vectors, all or none of them; one that is there stays."""
        rows = [(self._key(text), vector.astype("<f4").tobytes()) for text, vector in vectors.items()]

        def work(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

        if rows:
            self._with(work, None)

    def _key(self, text: str) -> bytes:
        return blake2b(f"{self.model}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def _with(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if self._broken:
            return otherwise
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT)) as db, db:
                db.execute(_TABLE)
                return work(db)
        except (sqlite3.Error, OSError) as error:
            self._broken = True
            warnings.warn(
                f"vectors are not kept: {self.path}: {error}; they will be computed again next time. Delete the file "
                "if it is damaged, or set ICL_CACHE to a folder that can be written",
                stacklevel=2,
            )
            return otherwise
