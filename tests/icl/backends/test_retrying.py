from collections.abc import Sequence

import pytest

from icl.backends import Retrying, Scripted
from icl.lm import LM, Completion, Request, Score
from templates.errors import BadReply, ICLError, PromptTooLong, Transient, Unsupported, UserError
from templates.prompt import Prompt


class Failing:
    """Fails with each of the errors in turn, then answers."""

    name = "failing"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def generate(self, request: Request) -> list[Completion]:
        """Fail, or say 18."""
        self._fail()
        return [Completion("18")] * request.n

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:  # noqa: ARG002
        """Fail, or say -1."""
        self._fail()
        return [Score((-1.0,)) for _ in continuations]

    def _fail(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


class Clock:
    """Sleeps at once, and remembers for how long."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:  # noqa: D102
        self.slept.append(seconds)


async def test_it_answers_in_the_end() -> None:
    """Two hiccups, then the answer: three calls, two waits."""
    inner, clock = Failing(Transient("busy"), BadReply("<html>")), Clock()
    assert await Retrying(inner, sleep=clock).generate(Request("a")) == [Completion("18")]
    assert (inner.calls, len(clock.slept)) == (3, 2)


async def test_scores_are_retried_too() -> None:
    """A score has the same patience as a sample."""
    inner = Failing(Transient("busy"))
    assert await Retrying(inner, sleep=Clock()).score("a", ["b", "c"]) == [Score((-1.0,))] * 2
    assert inner.calls == 2


async def test_waits_double_up_to_the_most() -> None:
    """Before tries 2 to 6 it waits less than 1, 2, 4, 5, 5 seconds; drawn anew, on average half of that."""
    slept: list[list[float]] = []
    for seed in range(400):
        clock = Clock()
        lm = Retrying(Failing(*[Transient("busy")] * 5), first=1.0, most=5.0, sleep=clock, seed=seed)
        await lm.generate(Request("a"))
        slept.append(clock.slept)
    for longest, waits in zip([1, 2, 4, 5, 5], zip(*slept, strict=True), strict=True):
        assert 0 <= min(waits) < max(waits) < longest
        assert sum(waits) / len(waits) == pytest.approx(longest / 2, rel=0.15)


async def test_jitter_belongs_to_the_request() -> None:
    """The same request waits the same again; another request, or another seed, waits differently."""

    async def waits(request: Request, seed: int = 0) -> list[float]:
        clock = Clock()
        await Retrying(Failing(Transient("busy")), sleep=clock, seed=seed).generate(request)
        return clock.slept

    first = await waits(Request("a"))
    assert await waits(Request("a")) == first
    assert await waits(Request("b")) != first
    assert await waits(Request("a", seed=1)) != first
    assert await waits(Request("a"), seed=1) != first


async def test_the_servers_wish_is_a_minimum() -> None:
    """A server that asks for 90 s gets at least these, beyond `most`, and not everybody back at the same moment."""
    clock = Clock()
    await Retrying(Failing(Transient("busy", after=90.0)), first=1.0, most=5.0, sleep=clock).generate(Request("a"))
    [slept] = clock.slept
    assert 90 < slept < 91


@pytest.mark.parametrize("error", [Transient("busy", after=3.0), BadReply("<html>")])
async def test_it_gives_up_with_the_last_error(error: ICLError) -> None:
    """After three tries the last error itself comes out, with the number of tries."""
    inner = Failing(Transient("first"), Transient("second"), error)
    with pytest.raises(type(error), match=r"^(busy|<html>); gave up after 3 attempts$") as caught:
        await Retrying(inner, attempts=3, sleep=Clock()).generate(Request("a"))
    assert caught.value.__cause__ is error
    assert getattr(error, "after", 3.0) == 3.0
    assert inner.calls == 3


@pytest.mark.parametrize("error", [PromptTooLong("long"), UserError("no"), ValueError("bug")])
async def test_other_errors_pass_at_once(error: Exception) -> None:
    """What another try cannot mend is not tried again."""
    inner, clock = Failing(error), Clock()
    with pytest.raises(type(error)):
        await Retrying(inner, sleep=clock).generate(Request("a"))
    assert (inner.calls, clock.slept) == (1, [])


def test_it_is_the_model_that_it_wraps() -> None:
    """Name and inner model show through: the cache key does not change."""
    inner: LM = Scripted({}, name="mine")
    assert Retrying(inner).name == "mine"
    assert Retrying(inner).inner is inner


async def test_a_model_that_cannot_score() -> None:
    """Wrapping does not teach a model to score."""

    class Mute:
        name = "mute"

        async def generate(self, request: Request) -> list[Completion]:
            raise NotImplementedError

    with pytest.raises(Unsupported, match="mute cannot score"):
        await Retrying(Mute()).score("a", ["b"])


@pytest.mark.parametrize("options", [{"attempts": 0}, {"first": -1.0}, {"first": 2.0, "most": 1.0}])
def test_bad_numbers_are_refused(options: dict[str, float]) -> None:
    """Numbers that mean nothing are refused by name."""
    with pytest.raises(UserError, match=next(iter(options))):
        Retrying(Scripted({}), **options)  # type: ignore[arg-type]
