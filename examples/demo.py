"""The whole pipeline on a real, tiny model, with neither GPU nor download: `make demo`.

Trains a Llama of some 0.3 million weights on word sums, once, then asks it held-out ones through the command line:
directly, with a chain of thought, and with the majority vote of twenty. What is there already is not done again.
"""

import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from eval.report import Report
from eval.rows import Outcome, Row
from examples import sums
from icl.loading import load_examples

HELD_OUT, TRAIN = 200, 20_000
LIMIT = 100  # of the held-out questions, so many are asked
SAMPLES = 20
STRATEGIES = {
    "direct": ("--max-tokens", "16"),
    "few-shot-cot": ("--max-tokens", "60"),
    "self-consistency": ("--max-tokens", "60", "--samples", f"{SAMPLES}"),
}
SHOWN = 4  # sampled paths of the worked example
# No bars for the loading of files, and no threads that wait busily: on a machine with other work they stop each other.
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

console = Console(highlight=False)


def main(folder: Path = Path("runs/demo")) -> None:
    """Train where needed, evaluate, and tell."""
    started = monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    asked, learnt = sums.split(seed=0, held_out=HELD_OUT, train=TRAIN)
    data, pool = sums.write(folder / "test.jsonl", asked), sums.write(folder / "train.jsonl", learnt)
    model = folder / "model"
    if not model.exists():
        trained(pool, model)
    reports = {name: evaluated(name, model, data, pool, folder / name) for name in STRATEGIES}
    console.print()
    console.print(compared(reports))
    voted = folder / "self-consistency"
    for figure in sorted(voted.glob("*.png")):
        console.print(f"Accuracy over the number of votes: {figure}")
    console.print()
    console.print(worked(rows(folder / "few-shot-cot"), rows(voted)), soft_wrap=True)
    console.print(f"\n{monotonic() - started:.0f} seconds. Everything is kept in {folder}; delete it to start afresh.")


def trained(pool: Path, model: Path) -> None:
    """Train the model, with a bar."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from examples.train_tiny import Recipe, train

    torch.set_num_threads(1)  # two are not faster on matrices as small as these
    disable_progress_bar()  # transformers' own, for writing files
    recipe = Recipe()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console.print(f"Training a tiny Llama on {TRAIN:,} word sums, once, in a good minute.")
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("steps", total=recipe.steps)
        train(load_examples(pool), model, recipe, lambda _: bar.advance(task))


def evaluated(strategy: str, model: Path, data: Path, pool: Path, out: Path) -> Report:
    """Run the command line as a user would, and read its report."""
    words = ["eval", "gsm8k", "--strategy", strategy, *STRATEGIES[strategy]]
    words += ["--backend", "transformers", "--backend-arg", "dtype=float32", "--model", f"{model}"]
    words += ["--data", f"{data}", "--pool", f"{pool}", "--selector", "random", "-k", "4"]
    words += ["--limit", f"{LIMIT}", "--out", f"{out}"]
    console.print(f"\n$ icl {shlex.join(words)}", soft_wrap=True, markup=False)
    command = [sys.executable, "-m", "eval", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | QUIET, check=False)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    return Report.model_validate_json(done.stdout)


def compared(reports: dict[str, Report]) -> Table:
    """Accuracy and cost, side by side; what one of the sampled paths is worth stands beside their vote."""
    title = f"{LIMIT} held-out word sums, 4 demonstrations each"
    table = Table("strategy", "accuracy", "95 % interval", "tokens / question", title=title, title_justify="left")
    for name, report in reports.items():
        a = report.accuracy
        said = (f"{a.value:.1%}", f"{a.low:.1%} to {a.high:.1%}") if a else ("none answered", "")
        tokens = (report.prompt_tokens + report.completion_tokens) / report.questions
        if report.curve:
            table.add_row("one sampled path", f"{report.curve[0].accuracy:.1%}", f"mean of {SAMPLES}", "")
            name = f"{name}, {SAMPLES} paths"  # noqa: PLW2901 - the same row's
        table.add_row(name, *said, f"{tokens:,.0f}")
    return table


def worked(greedy: list[Row], voted: list[Row]) -> Text:
    """One question in full: of those that the vote got right and the greedy path wrong, the one it is surest of."""
    pairs = list(zip(greedy, voted, strict=True))
    rescued = [pair for pair in pairs if [row.outcome for row in pair] == [Outcome.WRONG, Outcome.RIGHT]]
    alone, vote = max(rescued or pairs, key=lambda pair: pair[1].share or 0)
    said = dict(zip(vote.completions, vote.answers, strict=True))  # each path once
    tally = Counter(answer or "unread" for answer in vote.answers).most_common()
    lines = [
        ("One question:", vote.question),
        ("Greedy path:", alone.completions[0].strip()),
        *((f"Sampled path {i}:", path.strip()) for i, path in enumerate(list(said)[:SHOWN], start=1)),
        ("Votes:", ", ".join(f"{answer}: {votes}" for answer, votes in tally)),
        ("Answer by vote:", f"{vote.answer} (greedy: {alone.answer}; right: {vote.gold})"),
    ]
    return Text("\n".join(f"{label:16} {value}" for label, value in lines))


def rows(run: Path) -> list[Row]:
    """The rows of a run folder."""
    return [Row.model_validate_json(line) for line in (run / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
