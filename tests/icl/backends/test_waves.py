import asyncio

import pytest

from icl.backends import Scripted
from icl.backends.waves import Waves
from icl.concurrency import gather
from icl.lm import Completion, Request, Score
from templates.errors import Unsupported


def model() -> Waves:
    """Says "18" to everything."""
    return Waves(Scripted(lambda _: "18", name="mine", scores={("a", "b"): -1.0}))


async def search(lm: Waves, depth: int, *, at_once: bool) -> None:
    """A search: one root request, then three children per node, level by level."""
    await lm.generate(Request("root"))
    width = 1
    for level in range(1, depth):
        width *= 3
        requests = [Request(f"{level}/{i}") for i in range(width)]
        if at_once:
            await gather(lm.generate, requests)
        else:
            for request in requests:
                await lm.generate(request)


async def test_as_many_waves_as_the_search_is_deep() -> None:
    """A search of three levels whose requests go out together has three waves: 1, 3, 9."""
    lm = model()
    await search(lm, 3, at_once=True)
    assert lm.waves == [1, 3, 9]


async def test_one_by_one_is_seen() -> None:
    """The same search with an await for each node has thirteen waves of one."""
    lm = model()
    await search(lm, 3, at_once=False)
    assert lm.waves == [1] * 13


async def test_many_questions_share_the_waves() -> None:
    """Twenty searches at once have the waves of one, each twenty times as large."""
    lm = model()
    await gather(lambda _: search(lm, 3, at_once=True), range(20))
    assert lm.waves == [20, 60, 180]


async def test_a_detour_is_waited_for() -> None:
    """A request that needs fifty turns of the loop to come falls into the same wave."""
    lm = model()

    async def late() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        await lm.generate(Request("late"))

    await asyncio.gather(lm.generate(Request("early")), late())
    assert lm.waves == [2]


async def test_scores_are_calls_too() -> None:
    """Samples and scores fall into one wave; a model that cannot score still cannot."""
    lm = model()
    _, scores = await asyncio.gather(lm.generate(Request("a")), lm.score("a", ["b"]))
    assert scores == [Score((-1.0,))]
    assert lm.waves == [2]
    assert lm.name == "mine"

    class Mute:
        name = "mute"

        async def generate(self, request: Request) -> list[Completion]:
            raise NotImplementedError

    with pytest.raises(Unsupported, match="mute cannot score"):
        await Waves(Mute()).score("a", ["b"])


async def test_the_first_of_a_wave_is_cancelled() -> None:
    """Whoever opened the wave may go; the others are answered."""
    lm = model()
    first = asyncio.create_task(lm.generate(Request("a")))
    await asyncio.sleep(0)
    second = asyncio.create_task(lm.generate(Request("b")))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)[0].text == "18"
    assert (await lm.generate(Request("c")))[0].text == "18"


def test_waves_in_many_loops() -> None:
    """One model serves several event loops, one after another."""
    lm = model()
    for _ in range(2):
        asyncio.run(search(lm, 2, at_once=True))
    assert lm.waves == [1, 3, 1, 3]
