"""Many coroutines at once, with the manners that a run of thousands of questions needs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

LIMIT = 1024  # well above the sequences that an engine runs at once (vLLM: 256), so that one always waits for it


async def gather(work: Callable[[A], Awaitable[B]], items: Sequence[A], limit: int = LIMIT) -> list[B]:
    """`work` on every item, at most `limit` at once; results in the order of the items.

    When one fails, the others are cancelled and its error itself is raised, not a group around it.
    """
    results: dict[int, B] = {}
    waiting = iter(enumerate(items))  # shared by the workers: each takes the next item when it is free

    async def worker() -> None:
        for i, item in waiting:
            results[i] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(limit, len(items))):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    return [results[i] for i in range(len(items))]
