"""The command line. Everything heavy is imported inside the commands: `icl --help` answers at once."""

import json
from pathlib import Path
from typing import Annotated

import typer

from eval.evaluating import evaluate_command
from eval.prompts import prompts_command
from eval.terminal import AsJson, fail, interruptible, run
from eval.tuning import tune_command

app = typer.Typer(
    help="Prompting and in-context learning for frozen language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"icl-toolkit {version('icl-toolkit')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Prompting and in-context learning for frozen language models."""


app.command("eval")(evaluate_command)


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder of the runs; what is there is not asked again.")] = Path(
        "runs/demo"
    ),
    limit: Annotated[int, typer.Option(min=1, max=500, help="Questions, of 500.")] = 100,
) -> None:
    """Ask the bundled model word sums in four ways: what each one is worth. No download, no GPU, two minutes."""
    from rich.console import Console

    from eval.demo import demo

    with interruptible(out):
        failed = demo(out, limit, Console(highlight=False))
    if failed:
        fail(f"{failed} questions failed; the same command tries them again")


@app.command("run")
def run_command(
    pipeline: Annotated[Path, typer.Argument(help="YAML file of a pipeline.")],
    input_: Annotated[Path, typer.Option("--input", help="JSONL or CSV file of questions.")],
    out: Annotated[Path, typer.Option(help="JSONL file for the answers; completions are kept beside it.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions.")] = None,
) -> None:
    """Answer questions with a pipeline from a YAML file; the same command continues what was stopped."""
    from eval.config import load_pipeline
    from eval.files import write_whole
    from eval.progress import progress
    from eval.rows import Outcome
    from eval.runner import answer
    from icl.loading import load_examples

    config = load_pipeline(pipeline)
    queries = load_examples(input_, limit=limit)
    store = out.with_name(out.name + ".samples.sqlite")
    with interruptible(out), progress() as on_start:
        rows = answer(config, queries, store, on_start)
    write_whole(out, "".join(row.model_dump_json() + "\n" for row in rows))
    unread = sum(row.answer is None and row.outcome is not Outcome.FAILED for row in rows)
    typer.echo(f"{len(rows)} answers in {out}" + (f", {unread} of which could not be read: null" if unread else ""))
    if failed := [row for row in rows if row.outcome is Outcome.FAILED]:
        fail(f"{len(failed)} of {len(rows)} questions failed, first: {failed[0].error}; run the same again")


app.command("tune")(tune_command)
app.command("prompts")(prompts_command)


@app.command("list")
def list_command(
    kind: Annotated[
        str | None, typer.Argument(help="selectors, orderers, strategies, tasks, methods, backends, templates")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what can be named."""
    from eval.catalogue import catalogue

    found = catalogue(kind)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for heading, entries in found.items():
        width = max(map(len, entries))
        typer.echo(heading)
        for name, about in entries.items():
            typer.echo(f"  {name:{width}}  {about}")


def main() -> None:
    """The entry point."""
    run(app)
