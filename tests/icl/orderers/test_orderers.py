import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl import Demo, Example
from icl.orderers import AsGiven, BySimilarity, Orderer, Reversed, Shuffled

QUERY = Example("test/0", {"question": "?"})


def demos(*scores: float) -> list[Demo]:
    """Demonstrations named by their place, with these scores."""
    return [Demo(Example(str(i), {"question": f"q{i}"}), score) for i, score in enumerate(scores)]


def names(ordered: list[Demo]) -> str:
    """The demonstrations' places in one string."""
    return "".join(demo.example.id for demo in ordered)


@pytest.mark.parametrize(
    ("orderer", "expected"),
    [(BySimilarity(), "42013"), (AsGiven(), "01234"), (Reversed(), "43210")],
    ids=["BySimilarity", "AsGiven", "Reversed"],
)
async def test_worked_by_hand(orderer: Orderer, expected: str) -> None:
    """Scores .5 .5 .2 .9 -1: the highest comes last, equals in the order given; the other two do not look at scores."""
    assert names(await orderer.order(demos(0.5, 0.5, 0.2, 0.9, -1), QUERY)) == expected


async def test_fixed_demonstrations_stay_as_written() -> None:
    """Without scores of their own, demonstrations are shown in the order given, also by similarity."""
    assert names(await BySimilarity().order(demos(0, 0, 0), QUERY)) == "012"


async def test_shuffling_belongs_to_the_query() -> None:
    """The same query is shuffled the same way, another one or another seed differently."""
    eight = demos(*[0.0] * 8)
    other = Example("test/1", {"question": "?"})
    once = await Shuffled(seed=3).order(eight, QUERY)
    await Shuffled(seed=3).order(eight, other)
    assert await Shuffled(seed=3).order(eight, QUERY) == once
    assert await Shuffled(seed=3).order(eight, other) != once
    assert await Shuffled(seed=4).order(eight, QUERY) != once


@pytest.mark.parametrize("orderer", [BySimilarity(), AsGiven(), Reversed(), Shuffled()], ids=lambda o: type(o).__name__)
@given(scores=st.lists(st.floats(allow_nan=False)))
async def test_nothing_is_lost(orderer: Orderer, scores: list[float]) -> None:
    """The same demonstrations come out, each once."""
    given = demos(*scores)
    ordered = await orderer.order(given, QUERY)
    assert sorted(names(ordered)) == sorted(names(given))
    assert len(ordered) == len(given)
