"""Text files that come from outside: whole, as UTF-8, each line with its place."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from templates.errors import DataError


def content(path: Path) -> io.StringIO:
    """The whole file, also a .gz; its lines end where the file says, not where Unicode knows other line ends.

    Raises:
        DataError: no such file, or not UTF-8 text.
    """
    if not path.is_file():
        raise DataError(f"no file {path}; check the path")
    try:
        whole = path.read_bytes()
        return io.StringIO((gzip.decompress(whole) if path.suffix == ".gz" else whole).decode("utf-8-sig"), newline="")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not empty, each after its place: "a.jsonl, line 3"."""
    for number, line in enumerate(content(path), start=1):
        if line.strip():
            yield f"{path}, line {number}", line
