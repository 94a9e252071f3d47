"""What holds for every selector, whatever it looks at."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl import Example
from icl.selectors import BM25, KNN, Fixed, Random, Selector
from icl.selectors.leaks import Pool, key, leaked
from templates.errors import NotEnoughDemos, NotFitted, UserError
from tests.icl.selectors.pools import Plane, example, examples

SELECTORS: dict[str, Callable[[], Selector]] = {
    "Random": Random,
    "Fixed": Fixed,
    "KNN": lambda: KNN(Plane()),
    "BM25": BM25,
}
every = pytest.mark.parametrize("make", SELECTORS.values(), ids=SELECTORS)

ANGLES = [f"{angle} degrees" for angle in (0, 10, 20, 30, 40, 50)]


def ids(demos: list[list]) -> list[list[str]]:  # type: ignore[type-arg]
    """The examples' ids."""
    return [[demo.example.id for demo in line] for line in demos]


@every
async def test_own_example_never_comes_back(make: Callable[[], Selector]) -> None:
    """Every example of the pool, asked as a query, gets all the others and not itself."""
    pool = examples(*ANGLES)
    selector = make()
    await selector.fit(pool)
    chosen = ids(await selector.select(pool, 5))
    assert [sorted(line) for line in chosen] == [[e.id for e in pool if e is not own] for own in pool]


@every
async def test_the_same_text_never_comes_back(make: Callable[[], Selector]) -> None:
    """A query under a new id, with other spaces and capitals, does not see its text, however many copies there are."""
    own = [example(f"own/{i}", text) for i, text in enumerate(["20 Degrees", "20  degrees ", "20 DEGREES"] * 20)]
    selector = make()
    await selector.fit([*own[:30], *examples("0 degrees", "10 degrees", "30 degrees"), *own[30:]])
    (chosen,) = ids(await selector.select([example("test/0", " 20\ndegrees")], 3))
    assert sorted(chosen) == ["pool/0", "pool/1", "pool/2"]


@every
async def test_same_id_with_another_text_is_the_same_example(make: Callable[[], Selector]) -> None:
    """An example whose question was rewritten does not come back either: the id counts by itself."""
    selector = make()
    await selector.fit(examples(*ANGLES))
    (chosen,) = ids(await selector.select([example("pool/3", "31 grad")], 5))
    assert "pool/3" not in chosen


@every
async def test_an_example_listed_twice_comes_once(make: Callable[[], Selector]) -> None:
    """A pool handed in twice over is the same pool."""
    pool = examples(*ANGLES)
    once, twice = make(), make()
    await once.fit(pool)
    await twice.fit(pool + pool)
    query = example("test/0", "22 degrees")
    assert await twice.select([query], 6) == await once.select([query], 6)


@every
async def test_too_few(make: Callable[[], Selector]) -> None:
    """Six examples, one of them the query: five can be had, six are refused with all the numbers."""
    pool = examples(*ANGLES)
    selector = make()
    await selector.fit(pool)
    message = "asked for k=6 demonstrations for query 'pool/2' from a pool of 6 examples, of which 1 .*: 5 are left"
    with pytest.raises(NotEnoughDemos, match=message):
        await selector.select(pool[2:], 6)
    with pytest.raises(UserError, match="k=-1"):
        await selector.select(pool, -1)


@every
async def test_before_fit(make: Callable[[], Selector]) -> None:
    """A selector without a pool says so."""
    with pytest.raises(NotFitted, match="before it had its pool; call fit first"):
        await make().select(examples(*ANGLES), 1)


@every
async def test_nothing_asked(make: Callable[[], Selector]) -> None:
    """Zero demonstrations can be had of any pool, even an empty one; no queries get no lists."""
    selector = make()
    await selector.fit([])
    assert await selector.select(examples("0 x", "1 x"), 0) == [[], []]
    await selector.fit(examples(*ANGLES))
    assert await selector.select(examples("0 x", "1 x"), 0) == [[], []]
    assert await selector.select([], 3) == []


@every
async def test_words_that_are_in_no_other(make: Callable[[], Selector]) -> None:
    """A query that has nothing in common with the pool gets k demonstrations all the same."""
    selector = make()
    await selector.fit(examples("90 a", "90 b", "90 c"))
    assert len((await selector.select([example("test/0", "0 z")], 3))[0]) == 3


@every
async def test_the_order_of_the_queries_does_not_matter(make: Callable[[], Selector]) -> None:
    """Backwards, or one at a time, each query gets the same demonstrations with the same scores."""
    selector = make()
    await selector.fit(examples(*(f"{(7 * i) % 60} degrees {'abc'[i % 3]}" for i in range(40))))
    queries = examples(*(f"{i} degrees" for i in range(30)), prefix="test")
    together = await selector.select(queries, 5)
    assert (await selector.select(queries[::-1], 5))[::-1] == together
    assert [(await selector.select([query], 5))[0] for query in queries] == together


@every
async def test_best_first(make: Callable[[], Selector]) -> None:
    """Scores never rise along the demonstrations, so that an orderer needs nothing else."""
    selector = make()
    await selector.fit(examples(*ANGLES))
    for line in await selector.select(examples("12 degrees", "99 x", prefix="test"), 6):
        scores = [demo.score for demo in line]
        assert scores == sorted(scores, reverse=True)


@every
async def test_a_second_fit_replaces_the_first(make: Callable[[], Selector]) -> None:
    """Only the last pool is selected from."""
    selector = make()
    await selector.fit(examples(*ANGLES))
    await selector.fit(examples("1 x", "2 x", prefix="new"))
    assert sorted(ids(await selector.select([example("q", "0 y")], 2))[0]) == ["new/0", "new/1"]


def test_leaked_names_the_queries() -> None:
    """Of four queries one has its id in the pool, and one its text but for spaces and case."""
    pool = [example("train/0", "How many?"), example("train/1", "How  much?")]
    queries = [
        example("test/0", "Why?"),
        example("train/1", "Rewritten"),
        example("test/2", " how MANY? "),
        example("test/3", "How many apples?"),
    ]
    assert leaked(pool, queries) == ["train/1", "test/2"]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "A ", "b", "b  c", "B C"]))))
def test_guard_equals_its_definition(rows: list[tuple[int, str]]) -> None:
    """The rows held back are those with the query's id or its normalised question, in any pool."""
    pool = Pool([Example(str(name), {"q": text}) for name, text in rows])
    for query in pool.examples:
        own = [e.id == query.id or key(e.question) == key(query.question) for e in pool.examples]
        assert pool.own(query).tolist() == [row for row, same in enumerate(own) if same]
    assert len({(e.id, key(e.question)) for e in pool.examples}) == len(pool)


def test_key_keeps_words_apart() -> None:
    """Only runs of white space and case are the same: no space is not a space, and ß is ss."""
    assert key("a b") == key("A\t\n b ")
    assert key("ab") != key("a b")
    assert key("Straße") == key("STRASSE")
