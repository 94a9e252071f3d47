from collections import Counter

import numpy as np

from icl.seeds import generator
from icl.selectors import Random
from icl.selectors.random import draw
from tests.icl.selectors.pools import example, examples

POOL = examples(*map(str, range(20)))


async def test_seed_and_query_decide() -> None:
    """The same seed and query give the same; another seed, or another query, something else."""
    first, same, other = Random(seed=1), Random(seed=1), Random(seed=2)
    for selector in (first, same, other):
        await selector.fit(POOL)
    queries = [example("test/0", "x"), example("test/1", "x")]
    chosen = await first.select(queries, 8)
    assert chosen == await same.select(queries, 8)
    assert chosen != await other.select(queries, 8)
    assert chosen[0] != chosen[1]


async def test_fewer_are_the_first_of_more() -> None:
    """The demonstrations for k = 3 begin those for k = 20, so that runs with different k compare in pairs."""
    selector = Random()
    await selector.fit(POOL)
    query = [example("test/0", "x")]
    assert (await selector.select(query, 3))[0] == (await selector.select(query, 20))[0][:3]


def test_every_draw_is_equally_likely() -> None:
    """Two of the rows 0, 2, 3 (row 1 is barred): six ordered pairs, each in a sixth of 6,000 draws within 4 errors."""
    counts = Counter(tuple(draw(generator(0, str(i)), 4, 2, np.array([1])).tolist()) for i in range(6000))
    assert sorted(counts) == [(0, 2), (0, 3), (2, 0), (2, 3), (3, 0), (3, 2)]
    assert all(abs(count - 1000) < 4 * np.sqrt(6000 * (1 / 6) * (5 / 6)) for count in counts.values())
