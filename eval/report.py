"""What a run comes to: `report.json`, a table on the terminal, the vote curve."""

from collections.abc import Sequence
from functools import partial
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from cot.votes import maj_curve, mean_and_error
from eval.config import Part, RunConfig
from eval.folder import RunFolder
from eval.registry import build
from eval.rows import Outcome, Right, Row, counted
from eval.stats import wilson
from icl.backends.metered import Meter, Price
from templates.answers import same_answer

if TYPE_CHECKING:
    from rich.table import Table


class Accuracy(BaseModel):
    """Share of right answers among the questions that did not fail, with its 95 % Wilson interval."""

    value: float
    low: float
    high: float


class CurvePoint(BaseModel):
    """Accuracy of the majority of m of the samples, over all subsets, and its standard error over questions."""

    m: int
    accuracy: float
    error: float | None  # None: of one question, which has none


class Report(BaseModel):
    """What a run comes to. It depends on the rows alone, so a run that was killed has the same one."""

    task: str
    complete: bool
    questions: int
    outcomes: dict[Outcome, int]
    accuracy: Accuracy | None  # None: nothing was answered
    curve: list[CurvePoint]  # empty where questions have no samples, or different numbers of them
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None  # at the prices that were given
    cut: int  # texts that end where max_tokens were used up
    dropped_demos: int
    signature: str
    config: RunConfig

    def write(self, folder: RunFolder) -> None:
        """`report.json`, and the vote curve as PNG and SVG where there is one."""
        folder.write("report.json", self.model_dump_json(indent=1) + "\n")
        if not self.curve:
            folder.remove("curve.png", "curve.svg")
        else:
            from eval.curve import Curve, draw

            label = f"{self.config.strategy.name}, {Path(self.config.model).name}"
            means = [point.accuracy for point in self.curve]
            errors = [nan if point.error is None else point.error for point in self.curve]
            curve = Curve(label, np.array(means), np.array(errors), sum(self.outcomes.values()) - self.failed)
            draw([curve], folder.path / "curve", title=f"{self.task}: majority vote")

    @property
    def failed(self) -> int:
        """Questions that could not be asked."""
        return self.outcomes[Outcome.FAILED]

    def table(self) -> "Table":
        """For the terminal."""
        from rich.table import Table

        table = Table(title=self.task, title_justify="left", show_header=False)
        for name, value in self._lines():
            table.add_row(name, value)
        return table

    def _lines(self) -> list[tuple[str, str]]:
        done = sum(self.outcomes.values())
        lines = [("questions", f"{self.questions:,}" if self.complete else f"{done:,} of {self.questions:,} done")]
        if self.accuracy:
            a = self.accuracy
            lines.append(("accuracy", f"{a.value:.2%}  (95 % interval {a.low:.2%} to {a.high:.2%})"))
        lines += [(str(outcome), f"{count:,}") for outcome, count in self.outcomes.items()]
        lines += [(f"maj@{p.m}", f"{p.accuracy:.2%} ± {p.error or 0:.2%}") for p in self._shown_points()]
        lines += [
            ("requests", f"{self.calls:,}"),
            ("prompt tokens", f"{self.prompt_tokens:,}"),
            ("completion tokens", f"{self.completion_tokens:,}"),
        ]
        if self.cut:
            lines.append(("cut at max tokens", f"{self.cut:,} texts; raise --max-tokens if they ran out of room"))
        if self.cost is not None:
            lines.append(("cost", f"{self.cost:,.4f}"))
        if self.dropped_demos:
            lines.append(("demonstrations dropped", f"{self.dropped_demos:,}"))
        return lines

    def _shown_points(self) -> list[CurvePoint]:
        from eval.curve import ticks

        return [self.curve[m - 1] for m in ticks(len(self.curve))] if self.curve else []


def report_of(
    config: RunConfig, rows: Sequence[Row], *, questions: int, price: Price, right: Right = same_answer
) -> Report:
    """The report of the rows that are done, of so many questions."""
    outcomes = counted(rows)
    answered = outcomes[Outcome.RIGHT] + outcomes[Outcome.WRONG] + outcomes[Outcome.UNREAD]
    meter = Meter(
        calls=sum(row.calls for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
    )
    return Report(
        task=config.task,
        complete=len(rows) == questions,
        questions=questions,
        outcomes=outcomes,
        accuracy=_accuracy(outcomes[Outcome.RIGHT], answered) if answered else None,
        curve=vote_curve(rows, right),
        calls=meter.calls,
        prompt_tokens=meter.prompt_tokens,
        completion_tokens=meter.completion_tokens,
        cost=meter.cost(price) if price != Price() else None,
        cut=sum(row.cut for row in rows),
        dropped_demos=sum(row.dropped for row in rows),
        signature=signature(config, questions),
        config=config,
    )


def vote_curve(rows: Sequence[Row], right: Right = same_answer) -> list[CurvePoint]:
    """maj@m for every m up to the number of samples; empty unless all questions have as many, more than one."""
    voted = [row for row in rows if row.outcome not in (None, Outcome.FAILED)]
    sizes = {len(row.answers) for row in voted}
    if len(sizes) != 1 or max(sizes) < 2:  # noqa: PLR2004 - one sample has no curve
        return []
    values = np.array([maj_curve(row.answers, partial(right, row.gold)) for row in voted])  # [Q, n]
    means, errors = mean_and_error(values)  # [n], [n]
    pairs = enumerate(zip(means.tolist(), errors.tolist(), strict=True), start=1)
    return [CurvePoint(m=m, accuracy=mean, error=error if len(voted) > 1 else None) for m, (mean, error) in pairs]


def signature(config: RunConfig, questions: int) -> str:
    """One line that says what a score is a score of."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("icl-toolkit")
    except PackageNotFoundError:  # run from a source tree that is not installed
        ours = "source"
    parts: dict[str, Any] = {
        "task": config.task,
        "questions": questions,
        "model": config.model,
        "backend": config.backend.name,
        "template": config.template,
        **(
            {"soft": f"{Path(config.soft_prompt).name}@{config.digests.get('soft_prompt', '')}"}
            if config.soft_prompt
            else {}
        ),
        "strategy": _strategy(config.strategy),
        "demos": (demos := _demos(config)),
        "order": "none" if demos == "none" else _part(config.orderer),
        "seed": config.seed,
        "version": ours,
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items())


def _demos(config: RunConfig) -> str:
    if config.backend.name == "replay":
        return "those of the saved run"
    if not config.k or not (config.selector or config.demos):
        return "none"
    source = Path(config.pool or config.demos or "train").name
    return f"{config.k} of {source} by {_part(config.selector) if config.selector else 'place'}"


def _strategy(part: Part) -> str:
    """With every parameter, also those that were left as they are."""
    strategy = build("strategies", part.name, **part.params)
    return f"{part.name}({','.join(f'{key}={value}' for key, value in vars(strategy).items())})"


def _part(part: Part) -> str:
    params = ",".join(f"{key}={value}" for key, value in part.params.items())
    return f"{part.name}({params})" if params else part.name


def _accuracy(right: int, answered: int) -> Accuracy:
    interval = wilson(right, answered)
    return Accuracy(value=right / answered, low=interval.low, high=interval.high)
