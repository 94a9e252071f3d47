"""Progress on the terminal: a bar where there is one, a plain line now and then where there is not."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from eval.rows import Outcome, Row

_EVERY = 10.0  # seconds between plain lines


@contextmanager
def progress() -> Iterator[Callable[[int], Callable[[Row], None]]]:
    """Gives what `evaluate` wants as `on_start`; writes to standard error, so that standard output stays clean."""
    with _bar() if sys.stderr.isatty() else _lines() as on_start:
        yield on_start


@contextmanager
def _bar() -> Iterator[Callable[[int], Callable[[Row], None]]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True))

    def on_start(total: int) -> Callable[[Row], None]:
        bar.start()  # only now: what came before may have had a bar of its own
        task, tally = bar.add_task("questions", total=total, said=""), _Tally()

        def on_row(row: Row) -> None:
            tally.add(row)
            bar.update(task, advance=1, said=str(tally))

        return on_row

    try:
        yield on_start
    finally:
        bar.stop()


@contextmanager
def _lines() -> Iterator[Callable[[int], Callable[[Row], None]]]:
    def on_start(total: int) -> Callable[[Row], None]:
        tally, said = _Tally(), 0.0

        def on_row(row: Row) -> None:
            nonlocal said
            tally.add(row)
            said = said or monotonic()  # the first line is due some time after the first row: engines load slowly
            if tally.done == total or monotonic() - said > _EVERY:
                said = monotonic()
                print(f"{tally.done}/{total} questions {tally}", file=sys.stderr, flush=True)  # noqa: T201

        return on_row

    yield on_start


class _Tally:
    def __init__(self) -> None:
        self.done = self.right = self.failed = self.gold = 0

    def add(self, row: Row) -> None:
        self.done += 1
        self.right += row.outcome is Outcome.RIGHT
        self.failed += row.outcome is Outcome.FAILED
        self.gold += row.outcome in (Outcome.RIGHT, Outcome.WRONG, Outcome.UNREAD)

    def __str__(self) -> str:
        said = [f"{self.right / self.gold:.1%} right"] if self.gold else []
        return ", ".join([*said, *([f"{self.failed} failed"] if self.failed else [])])
