"""What the commands have in common when they talk to a person."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]


@contextmanager
def interruptible(out: Path) -> Iterator[None]:
    """Ctrl-C within ends in one sentence."""
    try:
        yield
    except KeyboardInterrupt:
        fail(f"interrupted; what is done is kept, and the same command continues it ({out})")


def fail(sentence: str) -> NoReturn:
    """End with the sentence and exit code 1.

    Raises:
        typer.Exit: always.
    """
    typer.echo(f"error: {sentence}", err=True)
    raise typer.Exit(1)


def own_command() -> str:
    """The line that was typed."""
    words: list[str] = ["icl", *sys.argv[1:]]
    return shlex.join(words)


def show(table: Any) -> None:
    """Print a table of rich."""
    from rich.console import Console

    Console().print(table)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, in place of Python's two."""
    typer.echo(f"warning: {message}", err=True)
