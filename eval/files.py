"""Files that are written whole or not at all."""

import os
from pathlib import Path

from templates.errors import StorageError


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write the file beside its place and move it there, so that nobody ever sees half of it.

    Raises:
        StorageError: disk full, no permission; the file that was there before is untouched.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.write_bytes(content.encode() if isinstance(content, str) else content)
        new.replace(path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error}; what was there before is untouched: make room, then run the same again"
        ) from error
    finally:
        new.unlink(missing_ok=True)
    return path
