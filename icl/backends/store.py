"""A table of keys and values on disk: SQLite in WAL mode, safe for several processes and for `kill -9`."""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from errno import ENOSPC
from pathlib import Path
from threading import Lock

from templates.errors import StorageError

_SCHEMA = "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value TEXT NOT NULL)"
_MOST_KEYS = 500  # in one query; SQLite takes at least 999 parameters
_PATIENCE = 60.0  # seconds to wait for another process's write
_PAUSE = 0.01  # seconds between two looks where SQLite does not wait itself


class Store:
    """Values by key; a value once written is never changed.

    A write survives the death of the process as soon as it returns (of the machine: at the next checkpoint of the WAL).
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = Lock()  # one connection, used from any thread, one at a time
        with self._explained("open"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_PATIENCE, check_same_thread=False, isolation_level=None
            )
            self._to_wal()
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_SCHEMA)

    def read(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """The values of those keys that there are."""
        found: dict[bytes, str] = {}
        with self._lock, self._explained("read"):
            for start in range(0, len(keys), _MOST_KEYS):
                some = keys[start : start + _MOST_KEYS]
                marks = ",".join("?" * len(some))
                found.update(
                    self._connection.execute(f"SELECT key, value FROM entries WHERE key IN ({marks})", some)  # noqa: S608 - question marks
                )
        return found

    def keep(self, entries: Mapping[bytes, str]) -> dict[bytes, str]:
        """Write the entries, all or none, and return what the store now holds for their keys.

        Where another process was faster, that is what it wrote: both go on with the same values.
        """
        with self._lock, self._explained("write to"):
            before = self._connection.total_changes
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?)", entries.items())
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            all_new = self._connection.total_changes - before == len(entries)
        return dict(entries) if all_new else self.read(list(entries))

    def __len__(self) -> int:
        with (
            self._lock,
            self._explained("read"),
            closing(self._connection.execute("SELECT count(*) FROM entries")) as rows,
        ):
            return int(rows.fetchone()[0])

    def close(self) -> None:
        """Give the file back; the WAL is folded into it."""
        with self._lock:
            self._connection.close()

    def _to_wal(self) -> None:
        """Switch to WAL mode. Of a file that is new to several processes SQLite itself does not wait for the others."""
        latest = time.monotonic() + _PATIENCE
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > latest:
                    raise
                time.sleep(_PAUSE)
            else:
                return

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """SQLite's and the file system's errors in this project's words."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            full = "full" in str(error) or getattr(error, "errno", None) == ENOSPC
            raise StorageError(
                f"cannot {what} {self.path}: {error}; what was stored before is safe: "
                f"{'free some space' if full else 'look at the file'}, then run the same again"
            ) from error
