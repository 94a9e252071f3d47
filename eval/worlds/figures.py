"""The figures of the bundled model's card: `python -m eval.worlds.figures FOLDER`. Stopped, the same goes on."""

from pathlib import Path
from typing import Annotated

import typer

from eval import ways
from eval.report import Report
from eval.rows import Outcome, Row
from eval.stats import paired
from eval.terminal import run
from eval.ways import Way
from icl.tiny import NAME

WAYS = (
    ways.DIRECT,
    ways.ZERO_SHOT,
    ways.CHAIN,
    ways.VOTE_5,
    ways.VOTE_20,
    ways.ADAPTIVE,
    ways.RANDOM,
    ways.BM25,
    ways.NEAREST,
    ways.NEAREST_FIRST,
)
COMPARED = (  # the first against the second
    (ways.VOTE_20, ways.CHAIN),
    (ways.ADAPTIVE, ways.VOTE_20),
    (ways.NEAREST, ways.RANDOM),
    (ways.NEAREST, ways.NEAREST_FIRST),
)


def figures(out: Path, limit: int, model: str = NAME) -> str:
    """Every way's accuracy, then what one is worth over another, as two tables in Markdown."""
    found = {way: way.asked(out, limit, model) for way in WAYS}
    alone = "\n".join(_row(way, *found[way]) for way in WAYS)
    against = "\n".join(_difference(a, b, found[a][1], found[b][1]) for a, b in COMPARED)
    return (
        "| task | way | right | 95 % interval | paths | tokens written |\n|---|---|---|---|---|---|\n"
        f"{alone}\n\n"
        "| the first | over the second | points | 95 % interval, paired |\n|---|---|---|---|\n"
        f"{against}\n"
    )


def _row(way: Way, report: Report, rows: list[Row]) -> str:
    a = report.accuracy
    said = f"{a.value:.1%} | {a.low:.1%} to {a.high:.1%}" if a else "none answered |"
    paths = sum(max(1, len(row.answers)) for row in rows) / len(rows)
    said = f"| {way.task} | {way.name} | {said} | {paths:.1f} | {report.completion_tokens / len(rows):.1f} |"
    if way is not ways.VOTE_20:
        return said
    one = report.curve[0]
    error = 196 * (one.error or 0.0)  # in points, 1.96 standard errors
    spread = f"{100 * one.accuracy - error:.1f}% to {100 * one.accuracy + error:.1f}%"
    return f"| {way.task} | one of the 20 paths, sampled | {one.accuracy:.1%} | {spread} | 1.0 | |\n{said}"


def _difference(a: Way, b: Way, ours: list[Row], theirs: list[Row]) -> str:
    found = paired(*([row.outcome is Outcome.RIGHT for row in rows] for rows in (ours, theirs)))
    if found.ties == len(ours):
        return f"| {a.name} | {b.name} | 0 | no question of {len(ours)} differs |"
    low, high = found.interval.low, found.interval.high
    return f"| {a.name} | {b.name} | {100 * found.difference:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} |"


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the runs.")],
    model: Annotated[str, typer.Option(help="The bundled model, or the folder of another that was so trained.")] = NAME,
    limit: Annotated[int, typer.Option(min=1, help="Questions of each task, of 500.")] = 500,
) -> None:
    """Ask in every way, and print the tables of the model card."""
    typer.echo(figures(out, limit, model))


if __name__ == "__main__":
    run(lambda: typer.run(main))
