import pytest

from icl.selectors import Fixed
from templates.errors import NotEnoughDemos, UnknownName, UserError
from tests.icl.selectors.pools import example, examples

POOL = examples("a", "b", "c", "d")


async def chosen(selector: Fixed, query: str, k: int) -> list[str]:
    """The ids that one query gets."""
    (demos,) = await selector.select([example("test/0", query)], k)
    return [demo.example.id for demo in demos]


async def test_first_of_the_pool() -> None:
    """Without anything given, the first k of the pool; the query's own example makes room for the next."""
    selector = Fixed()
    await selector.fit(POOL)
    assert await chosen(selector, "x", 2) == ["pool/0", "pool/1"]
    assert await chosen(selector, "a", 2) == ["pool/1", "pool/2"]
    assert await chosen(selector, "c", 2) == ["pool/0", "pool/1"]


async def test_ids_in_the_order_given() -> None:
    """Ids are looked up in the pool and keep their order."""
    selector = Fixed(["pool/3", "pool/0", "pool/2"])
    await selector.fit(POOL)
    assert await chosen(selector, "x", 2) == ["pool/3", "pool/0"]
    assert await chosen(selector, "d", 2) == ["pool/0", "pool/2"]


async def test_examples_need_no_pool() -> None:
    """Examples given by hand are used as they are, without fit; a pool changes nothing."""
    selector = Fixed(examples("u", "v", prefix="mine"))
    assert await chosen(selector, "x", 2) == ["mine/0", "mine/1"]
    await selector.fit(POOL)
    assert await chosen(selector, "x", 2) == ["mine/0", "mine/1"]
    with pytest.raises(NotEnoughDemos, match="k=2 demonstrations for query 'test/0' from a pool of 2 examples"):
        await chosen(selector, "u", 2)


async def test_an_unknown_id_names_the_nearest() -> None:
    """A slip in an id is answered with the ids that are like it."""
    with pytest.raises(UnknownName, match=r"no example 'pool/9' among the 4 of the pool; the nearest ids are .*pool/3"):
        await Fixed(["pool/9"]).fit(POOL)


def test_one_string_is_not_a_list() -> None:
    """A bare id would be read letter by letter; it is refused."""
    with pytest.raises(UserError, match=r"write \['pool/3'\]"):
        Fixed("pool/3")
