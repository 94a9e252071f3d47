import asyncio

import pytest

from icl.concurrency import gather


async def test_results_are_in_the_order_of_the_items() -> None:
    """Whatever finishes first, results stand where their items stood."""

    async def work(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await gather(work, [5, 1, 3, 0]) == [5, 1, 3, 0]
    assert await gather(work, []) == []


async def test_no_more_than_the_limit_at_once() -> None:
    """With limit 3, three are at work at once, and no more; all ten are done."""
    at_once = most = 0

    async def work(_: int) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1

    assert len(await gather(work, range(10), limit=3)) == 10
    assert most == 3


async def test_the_first_error_itself_is_raised_and_the_others_are_cancelled() -> None:
    """Not a group of errors; and what is still at work is stopped."""
    cancelled = []

    async def work(item: int) -> None:
        if item == 0:
            await asyncio.sleep(0)
            raise KeyError("first")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    with pytest.raises(KeyError, match="first"):
        await gather(work, [0, 1, 2])
    assert sorted(cancelled) == [1, 2]
