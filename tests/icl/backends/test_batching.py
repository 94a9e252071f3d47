import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from icl.backends.batching import Job, Limits, Share, Size, Worker, batches
from templates.errors import ModelError

WIDE = Limits(prompt=1000, cache=1000, outputs=1000)


@dataclass(frozen=True)
class Words:
    """A task whose parts are copies of a word."""

    word: str
    parts: int = 1

    def size(self, parts: range) -> Size:
        """A row for each copy, as long as the word."""
        return Size(len(self.word), len(parts), 1, 1)


@dataclass
class Engine:
    """Says each word with the number of the part, and remembers its batches."""

    limits: Limits = WIDE
    trouble: Callable[[list[str]], Exception | None] = lambda _: None
    seen: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.worker = Worker(lambda: self.limits)

    def run(self, shares: Sequence[Share]) -> list[list[str]]:
        """One batch."""
        self.seen.append(words := [share.task.word for share in shares for _ in share.parts])
        if error := self.trouble(words):
            raise error
        return [[f"{share.task.word}{part}" for part in share.parts] for share in shares]

    async def say(self, word: str, parts: int = 1) -> list[Any]:
        """One job."""
        return await self.worker.submit(Job(lambda: Words(word, parts), self.run))


def shared(word: str, parts: int = 1) -> Share:
    """All of a job of its own."""
    return Share(Job(lambda: Words(word, parts), lambda _: []), Words(word, parts), range(parts))


def planned(limits: Limits, *shares: Share) -> list[list[tuple[str, range]]]:
    """What would run in which batch."""
    return [[(share.task.word, share.parts) for share in batch] for batch in batches(shares, limits)]


def test_batches_are_of_like_length() -> None:
    """Ten prompt tokens at once: 5 + 4 padded to 5 make ten, 2 and 1 follow."""
    limits = Limits(prompt=10, cache=1000, outputs=1000)
    one = range(1)
    plan = planned(limits, shared("a"), shared("bbbbb"), shared("cc"), shared("dddd"))
    assert plan == [[("bbbbb", one), ("dddd", one)], [("cc", one), ("a", one)]]


def test_samples_cost_cache() -> None:
    """Five samples of four tokens that grow by one need 25 cached tokens; of twelve there are two at a time."""
    limits = Limits(prompt=1000, cache=12, outputs=1000)
    plan = planned(limits, shared("dddd", 5))
    assert plan == [[("dddd", range(2))], [("dddd", range(2, 3))], [("dddd", range(3, 5))]]


def test_a_single_part_is_never_refused() -> None:
    """A prompt above the limit runs alone: the limits save memory, the context is checked elsewhere."""
    assert planned(Limits(2, 2, 2), shared("dddd")) == [[("dddd", range(1))]]


async def test_what_is_asked_in_one_turn_runs_together() -> None:
    """Three coroutines started at once are one batch, and each gets its own."""
    engine = Engine()
    found = await asyncio.gather(engine.say("a"), engine.say("b", 2), engine.say("c"))
    assert list(found) == [["a0"], ["b0", "b1"], ["c0"]]
    assert engine.seen == [["a", "b", "b", "c"]]


async def test_parts_from_several_batches_come_in_order() -> None:
    """Five samples in three batches are five results in order."""
    engine = Engine(Limits(prompt=1000, cache=4, outputs=1000))
    assert await engine.say("a", 5) == ["a0", "a1", "a2", "a3", "a4"]
    assert len(engine.seen) == 3


def test_event_loops_come_and_go() -> None:
    """One worker answers in two event loops, one after the other."""
    engine = Engine()
    assert [asyncio.run(engine.say("a")), asyncio.run(engine.say("b"))] == [["a0"], ["b0"]]


async def test_an_error_reaches_the_requests_of_its_batch_alone() -> None:
    """The batch of the long word fails with the error itself; the short one's is not touched."""
    broken = ValueError("broken")
    engine = Engine(Limits(prompt=5, cache=1000, outputs=1000), lambda words: broken if "bbbbb" in words else None)
    found = await asyncio.gather(engine.say("bbbbb"), engine.say("a"), return_exceptions=True)
    assert list(found) == [broken, ["a0"]]


async def test_a_request_that_cannot_be_prepared_fails_alone() -> None:
    """The error of one `prepare` leaves its neighbours in peace."""
    engine = Engine()

    def prepare() -> Words:
        raise KeyError("no such word")

    wrong = engine.worker.submit(Job(prepare, engine.run))
    results = await asyncio.gather(wrong, engine.say("a"), return_exceptions=True)
    assert (type(results[0]), results[1]) == (KeyError, ["a0"])


async def test_a_model_that_cannot_be_loaded_fails_all() -> None:
    """Limits come from the model; when there is none, everybody learns why."""
    error = OSError("no weights")

    def limits() -> Limits:
        raise error

    engine = Engine()
    engine.worker = Worker(limits)
    found = await asyncio.gather(engine.say("a"), engine.say("b"), return_exceptions=True)
    assert list(found) == [error, error]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
async def test_a_batch_without_memory_is_halved(error: Exception) -> None:
    """Four words at most three of which fit run as two and two, eight samples as four halves."""
    engine = Engine(trouble=lambda words: error if len(words) > 3 else None)
    assert await asyncio.gather(*(engine.say(word) for word in "abcd")) == [["a0"], ["b0"], ["c0"], ["d0"]]
    assert engine.seen == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"]]
    assert await engine.say("e", 8) == [f"e{i}" for i in range(8)]


async def test_a_single_sample_without_memory_is_an_error() -> None:
    """There is nothing left to halve, so the error is told."""
    engine = Engine(trouble=lambda words: MemoryError(f"{len(words)}"))
    with pytest.raises(MemoryError, match="1"):
        await engine.say("a", 4)


async def test_a_cancelled_request_never_runs() -> None:
    """A request that is cancelled while another one's batch runs is left out of the next."""
    loop, started = asyncio.get_running_loop(), asyncio.Event()
    release: asyncio.Future[None] = loop.create_future()

    def hold(words: list[str]) -> None:
        if words == ["a"]:
            loop.call_soon_threadsafe(started.set)
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(release, 10), loop).result()

    engine = Engine(trouble=hold)
    first = asyncio.create_task(engine.say("a"))
    await started.wait()
    second, third = asyncio.create_task(engine.say("b")), asyncio.create_task(engine.say("c"))
    await asyncio.sleep(0.01)
    second.cancel()
    release.set_result(None)
    assert list(await asyncio.gather(first, third)) == [["a0"], ["c0"]]
    assert engine.seen == [["a"], ["c"]]


async def test_a_closed_worker_finishes_and_refuses() -> None:
    """What was asked before the end is answered, what is asked after it is refused."""
    engine = Engine()
    waiting = asyncio.create_task(engine.say("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await engine.worker.aclose()
    assert await waiting == ["a0"]
    with pytest.raises(ModelError, match="closed"):
        await engine.say("b")
