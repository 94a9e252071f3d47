"""Running an evaluation: every question at once, every outcome kept, every stop recoverable."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from eval.config import PipelineConfig, RunConfig
from eval.folder import RunFolder
from eval.registry import find
from eval.report import Report, report_of
from eval.rows import Outcome, Right, Row, row_of
from icl.backends.cached import Cached
from icl.backends.metered import Metered, Price
from icl.concurrency import gather
from icl.example import Example
from icl.lm import aclose
from icl.lm import find as find_layer
from icl.pipeline import Pipeline
from icl.trace import Problem
from templates.answers import same_answer
from templates.errors import DataError, ModelError, PromptTooLong

if TYPE_CHECKING:
    from eval.task import Task

# When so many questions have failed and none was answered, the model is not there: the rest is not tried.
HOPELESS = 20

OnRow = Callable[[Row], None]
OnStart = Callable[[int], OnRow]


@dataclass
class Answering:
    """Questions being answered by a pipeline; `rows` holds what is done, whatever happens.

    Args:
        pipeline: fitted.
        right: whether a canonical answer is the gold one.
        on_start: called when the prompts are made, with their number; returns what to call for each question done.
    """

    pipeline: Pipeline
    right: Right = same_answer
    on_start: OnStart = lambda _: lambda _: None
    done: dict[str, Row] = field(default_factory=dict, init=False)

    async def run(self, queries: Sequence[Example]) -> list[Row]:
        """The row of every question, in their order.

        A question that fails for good is a row that says so; what concerns all questions (a wrong key, a full disk, a
        model that never answers) stops the run.
        """
        problems = await self.pipeline.problems(queries)
        self._on_row = self.on_start(len(problems))
        await gather(self._one, problems, limit=self.pipeline.concurrency)
        return self.rows(queries)

    def rows(self, queries: Sequence[Example]) -> list[Row]:
        """The rows that are done, in the order of the questions."""
        return [self.done[query.id] for query in queries if query.id in self.done]

    async def _one(self, problem: Problem) -> None:
        try:
            row = row_of(problem, await self.pipeline.solve(problem), self.right)
        except (ModelError, PromptTooLong) as error:
            row = row_of(problem, error, self.right)
            self.done[row.id] = row
            if len(self.done) >= HOPELESS and all(one.outcome is Outcome.FAILED for one in self.done.values()):
                raise ModelError(f"the first {len(self.done)} questions all failed, the last with: {error}") from error
        self.done[row.id] = row
        self._on_row(row)


def evaluate(config: RunConfig, folder: RunFolder, *, price: Price, on_start: OnStart) -> Report:
    """Run an evaluation in its folder, or continue it, and return its report.

    Stopped at any point, by Ctrl-C or an error, the folder holds the rows that are done and a report of them that says
    it is not complete; the same call goes on from there.

    Args:
        config: the run in words.
        folder: where it is kept.
        price: what the tokens cost.
        on_start: given the number of questions, returns what to call for each one that is done.
    """
    task: Task = find("tasks", config.task)
    with folder.locked():
        config = config.with_digests()
        queries = _questions(config, task)
        if unanswered := [query.id for query in queries if query.answer is None]:
            raise DataError(
                f"{len(unanswered)} questions have no answer to compare with, first {unanswered[0]!r}; "
                "`icl run` answers questions without"
            )
        pool = pool_of(config, task)
        pipeline, metered = config.build(folder.samples)  # a wrong name is said before a wrong folder
        folder.check(config)
        folder.begin(config)
        answering = Answering(pipeline, task.right, on_start)
        try:
            with _session(folder, pipeline, metered):
                asyncio.run(_fit_and_run(answering, pool, queries))
        finally:
            rows = answering.rows(queries)
            report = report_of(config, rows, questions=len(queries), price=price, right=task.right)
            if rows or not folder.has_rows:  # a session that answered nothing leaves what is there
                folder.write_rows(rows)
                report.write(folder)
    return report


def _questions(config: RunConfig, task: "Task") -> Sequence[Example]:
    """The questions: the task's own where no file is given."""
    try:
        return task.load(config.data, config.limit)
    except DataError as error:
        if config.data:
            raise
        raise DataError(f"the questions of {task.name!r}: {error}; or give a file with --data") from error


def pool_of(config: RunConfig, task: "Task") -> Sequence[Example]:
    """What demonstrations are chosen from: the task's own where a selector is given and no file."""
    if config.k and config.selector and not (config.pool or config.demos):
        try:
            return task.load_pool(None, None)
        except DataError as error:
            raise DataError(
                f"selector {config.selector.name!r} chooses from the training split of {task.name!r} where no file is "
                f"given: {error}; or give a file with --pool"
            ) from error
    return config.examples(lambda source: task.load_pool(source, None))


def answer(config: PipelineConfig, queries: Sequence[Example], store: Any, on_start: OnStart) -> list[Row]:
    """Answer questions with a pipeline in words, keeping completions in `store`; rows in the order of the questions."""
    pool = config.examples()
    pipeline, _ = config.build(store)
    answering = Answering(pipeline, on_start=on_start)
    return asyncio.run(_fit_and_run(answering, pool, queries))


async def _fit_and_run(answering: Answering, pool: Sequence[Example], queries: Sequence[Example]) -> list[Row]:
    try:
        await answering.pipeline.afit(pool)
        return await answering.run(queries)
    finally:
        await aclose(answering.pipeline.lm)


class _session:  # noqa: N801 - a context manager, used like a function
    """One process's part in a run, logged when it ends, however it ends."""

    def __init__(self, folder: RunFolder, pipeline: Pipeline, metered: Metered) -> None:
        self.folder, self.pipeline, self.metered = folder, pipeline, metered

    def __enter__(self) -> None:
        self.started, self.clock = time(), monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        cached = find_layer(self.pipeline.lm, Cached)
        meter = self.metered.meter
        self.folder.log_session(
            {
                "started": self.started,
                "seconds": monotonic() - self.clock,
                "ended": "finished" if kind is None else kind.__name__,
                "samples_from_store": cached.hits if cached else 0,
                "engine": vars(meter),
            }
        )
