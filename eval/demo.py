"""`icl demo`: the main job on the bundled model, and what each way of asking it is worth."""

from collections import Counter
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from eval.report import Report
from eval.rows import Outcome, Row
from eval.ways import CHAIN, DIRECT, VOTE_5, VOTE_20
from icl.tiny import NAME

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

SHOWN = 4  # sampled paths of the worked example


def demo(out: Path, limit: int, console: "Console") -> int:
    """Ask held-out sums in every way, and tell what came of it; what is in the folder is not asked again.

    Returns:
        How many questions failed, of all ways together.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of loading: the bundled model is there in no time, four times over
    started = monotonic()
    console.print(f"{limit} held-out word sums, 8 demonstrations each, on the bundled model ({NAME}), in this process.")
    console.print(
        "Its greedy path was taught to be hasty, so that votes have something to mend; its card has the rest."
    )
    reports: dict[str, Report] = {}
    rows: dict[str, list[Row]] = {}
    for way in (DIRECT, CHAIN, VOTE_5, VOTE_20):  # the last one asks for the fifteen paths that are missing
        console.print(f"\n[bold]{way.name}[/bold]")
        reports[way.name], rows[way.name] = way.asked(out, limit)
    console.print()
    console.print(compared(reports))
    if curve := reports[VOTE_20.name].curve:
        console.print(f"One sampled path alone, without a vote: {curve[0].accuracy:.1%} right.")
    console.print(f"Accuracy over the number of votes: {out / VOTE_20.folder}/curve.png\n")
    console.print(worked(rows[CHAIN.name], rows[VOTE_20.name]))
    console.print(f"\n{monotonic() - started:.0f} seconds. Samples, rows and reports are in {out}.")
    console.print("With a model of your own:\n  icl eval gsm8k --model NAME --samples 40 --out runs/mine")
    return sum(report.failed for report in reports.values())


def compared(reports: dict[str, Report]) -> "Table":
    """Accuracy and cost, side by side."""
    from rich.table import Table

    table = Table(caption="read, written: tokens per question")
    for heading in ("", "right", "95 % interval", "read", "written"):
        table.add_column(heading, no_wrap=True)
    for name, report in reports.items():
        a = report.accuracy
        said = (f"{a.value:.1%}", f"{a.low:.1%} to {a.high:.1%}") if a else ("none answered", "")
        read, written = (tokens / report.questions for tokens in (report.prompt_tokens, report.completion_tokens))
        table.add_row(name, *said, f"{read:,.0f}", f"{written:,.0f}")
    return table


def worked(greedy: list[Row], voted: list[Row]) -> "Text":
    """One question in full: of those that the vote got right and the greedy path wrong, the one it is surest of."""
    from rich.text import Text

    pairs = [pair for pair in zip(greedy, voted, strict=True) if Outcome.FAILED not in {row.outcome for row in pair}]
    if not pairs:
        return Text("No question was answered both ways.")
    rescued = [pair for pair in pairs if [row.outcome for row in pair] == [Outcome.WRONG, Outcome.RIGHT]]
    alone, vote = max(rescued or pairs, key=lambda pair: pair[1].share or 0)
    paths = dict.fromkeys(vote.completions)  # each once
    tally = Counter(answer or "unread" for answer in vote.answers).most_common()
    heading = "One of the questions that the vote got right and the greedy path wrong:" if rescued else "One question:"
    lines = [
        ("Greedy path:", alone.completions[0].strip()),
        *(("A sampled path:", path.strip()) for path in list(paths)[:SHOWN]),
        ("Votes:", ", ".join(f"{answer}: {votes}" for answer, votes in tally)),
        ("Answer by vote:", f"{vote.answer} (greedy: {alone.answer}; right: {vote.gold})"),
    ]
    return Text("\n".join([heading, vote.question, *(f"{label:15} {value}" for label, value in lines)]))
