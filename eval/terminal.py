"""What the commands have in common when they talk to a person."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from templates.errors import ICLError, UserError

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


def show(table: Any, *, aside: bool = False) -> None:
    """Print a table of rich; what is said aside does not belong to the result."""
    from rich.console import Console

    Console(stderr=aside).print(table)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, in place of Python's two."""
    typer.echo(f"warning: {message}", err=True)


def run(program: Callable[[], None]) -> None:
    """Run a program for a person.

    A user's mistake is one sentence and exit code 2, a failure of the model's side exit code 1.
    """
    # Threads that wait give the processor back: spinning, they slow a machine that others use too to a tenth. Both have
    # to be said before torch and the hub's client are loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.showwarning = show_warning
    logging.basicConfig(format="%(message)s")
    logging.getLogger("icl").setLevel(logging.INFO)
    try:
        program()
    except ICLError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        typer.echo("error: interrupted; the same command goes on from what is kept", err=True)
        sys.exit(1)
