"""Requests that wait for one model are run together: one thread, batches of like length, within limits of memory."""

import asyncio
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from templates.errors import ModelError


@dataclass(frozen=True)
class Size:
    """What a batch costs."""

    prompt: int  # tokens of the longest prompt
    rows: int  # rows of the key-value cache
    new: int  # tokens that a row may grow by
    outputs: int  # positions of a row that go through the output layer at once
    prompts: int = 1

    def __add__(self, other: "Size") -> "Size":
        """The size of both in one batch: rows add up, and the shorter are padded to the longer."""
        return Size(
            max(self.prompt, other.prompt),
            self.rows + other.rows,
            max(self.new, other.new),
            max(self.outputs, other.outputs),
            self.prompts + other.prompts,
        )


@dataclass(frozen=True)
class Limits:
    """What a batch may cost, in tokens."""

    prompt: int  # prompt tokens computed at once
    cache: int  # tokens whose keys and values are kept
    outputs: int  # distributions over the vocabulary

    def allow(self, size: Size) -> bool:
        """Whether a batch of that size is within the limits."""
        return (
            size.prompts * size.prompt <= self.prompt
            and size.rows * (size.prompt + size.new) <= self.cache
            and size.rows * size.outputs <= self.outputs
        )


class Task(Protocol):
    """A request in token ids. It has parts, its samples or continuations, which may run in different batches."""

    @property
    def parts(self) -> int: ...  # noqa: D102

    def size(self, parts: range) -> Size:
        """What these parts cost."""
        ...


@dataclass(eq=False)
class Job:
    """A request on its way through the worker.

    Args:
        prepare: makes the task; runs on the worker's thread, and what it raises is the answer to this job alone.
        run: computes a batch of shares, one list of results for each, in the order of its parts.
    """

    prepare: Callable[[], Task]
    run: "Callable[[Sequence[Share]], list[list[Any]]]"
    future: "Future[list[Any]]" = field(default_factory=Future)
    results: dict[int, Any] = field(default_factory=dict)

    def fail(self, error: Exception) -> None:
        """Answer with the error itself."""
        with suppress(InvalidStateError):  # cancelled, or failed already in another batch
            self.future.set_exception(error)

    def deliver(self, parts: range, results: Sequence[Any], of: int) -> None:
        """Keep the results of these parts, and answer when all are there."""
        self.results.update(zip(parts, results, strict=True))
        if len(self.results) == of:
            with suppress(InvalidStateError):
                self.future.set_result([self.results[part] for part in range(of)])


@dataclass(frozen=True, eq=False)
class Share:
    """Those parts of a job that run in one batch."""

    job: Job
    task: Any  # a Task; what runs it knows which
    parts: range

    @cached_property
    def size(self) -> Size:
        """What it costs."""
        size: Size = self.task.size(self.parts)
        return size

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more: cancelled, or failed in another batch."""
        return self.job.future.done()

    def halves(self) -> list["Share"]:
        """The share in two."""
        middle = len(self.parts) // 2
        return [Share(self.job, self.task, half) for half in (self.parts[:middle], self.parts[middle:])]


def batches(shares: Sequence[Share], limits: Limits) -> Iterator[list[Share]]:
    """The shares in batches within the limits, longest prompts first.

    A share that is too large by itself is cut into several; a single part is never refused.
    """
    pieces = sorted(
        (piece for share in shares for piece in _pieces(share, limits)), key=lambda p: (-p.size.prompt, -p.size.new)
    )
    batch: list[Share] = []
    size = Size(0, 0, 0, 0, 0)
    for piece in pieces:
        if batch and not limits.allow(size + piece.size):
            yield batch
            batch, size = [], Size(0, 0, 0, 0, 0)
        batch.append(piece)
        size += piece.size
    if batch:
        yield batch


def run_batch(batch: Sequence[Share]) -> None:
    """Run the batch and answer its jobs: an error reaches all of them. A batch that runs out of memory is halved."""
    wanted = [share for share in batch if not share.abandoned]
    if not wanted:
        return
    try:
        results = wanted[0].job.run(wanted)
    except Exception as error:  # noqa: BLE001 - it goes to those who asked
        traceback.clear_frames(error.__traceback__)  # else the error keeps the batch's tensors alive
        halves = _halves(wanted) if _out_of_memory(error) else []
        if not halves:
            for share in wanted:
                share.job.fail(error)
            return
    else:
        for share, result in zip(wanted, results, strict=True):
            share.job.deliver(share.parts, result, of=share.task.parts)
        return
    for half in halves:  # outside of the except clause, so that the error is gone
        run_batch(half)


class Worker:
    """The thread on which a model runs. Coroutines of any event loop hand it jobs; what waits is run together.

    Args:
        limits: of a batch; asked on the thread, when there is something to run.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        self._waiting: deque[Job] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._closed = False

    async def submit(self, job: Job) -> list[Any]:
        """The job's results, in the order of its parts. A job that is cancelled before its batch starts never runs."""
        if self._closed:
            raise ModelError("this model was closed and cannot be asked any more; make a new one")
        self._waiting.append(job)
        try:
            await asyncio.sleep(0)  # all that is asked in this turn of the event loop gets in
            self._thread.submit(self._run_waiting)  # one for each job: the first takes all, the others find nothing
            return await asyncio.wrap_future(job.future)
        finally:
            job.future.cancel()  # does nothing when it has its answer

    async def aclose(self) -> None:
        """Let the thread finish what waits, and end it."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown)

    def _run_waiting(self) -> None:
        jobs = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            for batch in self._batches([job for job in jobs if not job.future.done()]):
                run_batch(batch)
        except Exception as error:  # noqa: BLE001 - nobody looks at this thread: it goes to those who asked
            for job in jobs:
                job.fail(error)

    def _batches(self, jobs: Sequence[Job]) -> Iterator[list[Share]]:
        kinds: dict[Any, list[Share]] = {}
        for job in jobs:
            try:
                task = job.prepare()
            except Exception as error:  # noqa: BLE001 - it goes to who asked
                job.fail(error)
            else:
                kinds.setdefault(job.run, []).append(Share(job, task, range(task.parts)))
        for shares in kinds.values():
            yield from batches(shares, self._limits())


def _pieces(share: Share, limits: Limits) -> list[Share]:
    if limits.allow(share.size) or len(share.parts) == 1:
        return [share]
    return [piece for half in share.halves() for piece in _pieces(half, limits)]


def _halves(batch: Sequence[Share]) -> list[Sequence[Share]]:
    if len(batch) > 1:
        return [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
    return [[half] for half in batch[0].halves()] if len(batch[0].parts) > 1 else []


def _out_of_memory(error: Exception) -> bool:
    # torch's error on accelerators by name, so that torch is not imported here; on a CPU it is a RuntimeError.
    return (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    )
