"""Prefixes for vLLM's engine: kept in a folder where its connector finds them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from templates.errors import StorageError
from templates.soft import Prefix

DISK = 2**30  # bytes of files; more only where they are in use, or were just now
# Seconds that a file stays after its last request: an answer that was given up, or cut at a stop string, is news to the
# engine, which may be about to begin the request (again), and would die of a file that is not there.
GRACE = 60.0


@dataclass
class _File:
    bytes: int
    users: int = 0
    used: float = 0.0  # when its last request ended


class Prefixes:
    """Those that an engine has been asked for; the folder goes when they go."""

    def __init__(self) -> None:
        with _explained("the folder for temporary files"):
            self._folder = TemporaryDirectory(prefix="icl-prefixes-", ignore_cleanup_errors=True)
        self._files: dict[str, _File] = {}  # the one that was used last comes last

    def transfer_config(self) -> Any:
        """The engine's `kv_transfer_config`."""
        from vllm.config import KVTransferConfig

        return KVTransferConfig(
            kv_connector="PrefixConnector",
            kv_connector_module_path="icl.backends.vllm_connector",
            kv_role="kv_consumer",
            kv_connector_extra_config={"folder": self._folder.name},
        )

    @contextmanager
    def kept(self, prefix: Prefix) -> Iterator[dict[str, Any]]:
        """Within, its file is there, written if it was not; yields the words in which a request asks for it.

        Raises:
            StorageError: disk full, no permission.
        """
        file = self._files.get(prefix.digest) or self._write(prefix)
        file.users += 1
        try:
            yield {"prefix": prefix.digest, "tokens": len(prefix)}
        finally:
            file.users -= 1
            file.used = monotonic()
            self._files[prefix.digest] = self._files.pop(prefix.digest)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def _write(self, prefix: Prefix) -> _File:
        """Keys and values, [L, 2, P, K, D], written beside their place and moved there."""
        import numpy as np
        from safetensors.numpy import save_file

        both = np.ascontiguousarray(np.stack([prefix.keys, prefix.values], 1).transpose(0, 1, 3, 2, 4))
        path = self._path(prefix.digest)
        new = path.with_suffix(".new")
        try:
            with _explained(path):
                self._make_room(both.nbytes)
                save_file({"prefix": both}, new)
                new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        file = self._files[prefix.digest] = _File(both.nbytes)
        return file

    def _make_room(self, more: int) -> None:
        """Remove files that nobody uses, the one used longest ago first, until there is room."""
        there = more + sum(file.bytes for file in self._files.values())
        for digest, file in list(self._files.items()):
            if there <= DISK:
                return
            if not file.users and monotonic() - file.used > GRACE:
                self._path(digest).unlink(missing_ok=True)
                del self._files[digest]
                there -= file.bytes

    def _path(self, digest: str) -> Path:
        return Path(self._folder.name) / f"{digest}.safetensors"


@contextmanager
def _explained(place: object) -> Iterator[None]:
    """The file system's errors in this project's words."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"cannot write {place}, where vLLM reads prefixes: {error}; make room there, or name another folder for "
            "temporary files in TMPDIR, then run the same again"
        ) from error


def prefix_of(params: Mapping[str, Any] | None) -> tuple[str, int] | None:
    """The prefix that a request asks for, and its tokens."""
    return (params["prefix"], params["tokens"]) if params and "prefix" in params else None


def slots(blocks: list[int], size: int, first: int, stop: int) -> list[int]:
    """Places in the cache of a request's tokens from `first` on, before `stop`.

    >>> slots([7, 4], size=16, first=14, stop=18)
    [126, 127, 64, 65]
    """
    return [blocks[token // size] * size + token % size for token in range(first, stop)]
