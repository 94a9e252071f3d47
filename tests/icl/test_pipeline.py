import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cot import Direct, SelfConsistency, ZeroShotCoT
from icl import Completion, Demo, Example, Pipeline, Problem, Request, Trace
from icl.backends import Cached, Metered, Scripted
from icl.backends.metered import Price
from icl.backends.waves import Waves
from icl.lm import LM, aclose
from icl.orderers import AsGiven, Reversed
from icl.selectors import Fixed
from templates import Prompt, Template
from templates.errors import MissingSlot, ModelError, UserError
from templates.prompt import shown

TEMPLATE = Template("Q: {question}\nA: {answer}")
POOL = [Example(f"pool/{i}", {"question": f"q{i}"}, f"a{i}") for i in range(4)]
QUERIES = [Example(f"test/{i}", {"question": f"t{i}"}, f"b{i}") for i in range(3)]


@dataclass
class Echo:
    """Says the last line but one of the prompt; a token is a word, and ten fit."""

    room: int = 10
    name: str = "echo"

    async def generate(self, request: Request) -> list[Completion]:
        """The question."""
        return [Completion(shown(request.prompt).splitlines()[-2], prompt_tokens=4, tokens=1)] * request.n

    async def count(self, prompts: Sequence[Prompt]) -> list[int]:
        """Words."""
        return [len(shown(prompt).split()) for prompt in prompts]

    async def context(self) -> int:
        """As given."""
        return self.room


def test_fit_once_run_many() -> None:
    """The selector's demonstrations stand in the prompt in the orderer's order, before the query."""
    lm = Scripted({f"Q: q1\nA: a1\n\nQ: q0\nA: a0\n\nQ: t{i}\nA:": f" b{i}" for i in range(3)})
    pipeline = Pipeline(lm, TEMPLATE, Direct(), selector=Fixed(), orderer=Reversed(), k=2)
    pipeline.fit(POOL)
    assert [trace.answer for trace in pipeline.run(QUERIES)] == ["b0", "b1", "b2"]
    assert [trace.answer for trace in pipeline.run(QUERIES[:1])] == ["b0"]


def test_without_a_selector_there_are_no_demonstrations() -> None:
    """Zero-shot needs neither pool nor fit."""
    lm = Scripted({"Q: t0\nA:": " b0"})
    assert Pipeline(lm, TEMPLATE, Direct()).run(QUERIES[:1])[0].answer == "b0"


def test_nothing_is_indexed_for_no_demonstrations() -> None:
    """With k = 0 the selector is not asked to read a pool that nobody will be shown."""

    class Unfit:
        def fit(self, _: Sequence[Example]) -> None:
            raise AssertionError

    pipeline = Pipeline(Scripted({"Q: t0\nA:": " b0"}), TEMPLATE, Direct(), selector=Unfit(), k=0)  # type: ignore[arg-type]
    pipeline.fit(POOL)
    assert pipeline.run(QUERIES[:1])[0].answer == "b0"


async def test_inside_a_loop_the_async_door_is_named() -> None:
    """`run()` in a notebook says what to write instead; `arun()` works there."""
    pipeline = Pipeline(Scripted({"Q: t0\nA:": " b0"}), TEMPLATE, Direct())
    with pytest.raises(UserError, match=r"use 'await pipeline.arun\(...\)'"):
        pipeline.run(QUERIES[:1])
    assert [t.answer for t in await pipeline.arun(QUERIES[:1])] == ["b0"]


async def test_all_questions_go_out_together() -> None:
    """Fifty two-step problems are two waves, not a hundred."""
    lm = Waves(Scripted(lambda request: " 7" if "Therefore" in shown(request.prompt) else " Hm."))
    queries = [Example(str(i), {"question": f"t{i}"}) for i in range(50)]
    await Pipeline(lm, TEMPLATE, ZeroShotCoT()).arun(queries)
    assert lm.waves == [50, 50]


async def test_results_do_not_depend_on_the_order_of_questions() -> None:
    """Each question has its own seed, from the pipeline's and its id."""
    asked: dict[str, int] = {}

    async def strategy(problem: Problem, lm: LM) -> Trace:  # noqa: ARG001
        asked[problem.query.id] = problem.seed
        return Trace(None)

    await Pipeline(Echo(), TEMPLATE, strategy).arun(QUERIES)
    before = dict(asked)
    await Pipeline(Echo(), TEMPLATE, strategy).arun(QUERIES[::-1])
    assert asked == before
    assert len(set(asked.values())) == 3
    await Pipeline(Echo(), TEMPLATE, strategy, seed=1).arun(QUERIES)
    assert set(asked.values()).isdisjoint(before.values())


async def test_what_does_not_fit_is_dropped_the_least_useful_first() -> None:
    """Ten words of context, two for the answer: the query's three and one demonstration's four fit.

    Among equally useful ones the last stays, nearest the query.
    """
    pipeline = Pipeline(Echo(10), TEMPLATE, Direct(max_tokens=2), selector=Fixed(), orderer=AsGiven(), k=3)
    await pipeline.afit(POOL)
    with pytest.warns(UserWarning, match=r"2 demonstrations did not fit into 8 tokens .* from 1 of 1 questions"):
        (problem,) = await pipeline.problems(QUERIES[:1])
    assert [demo.example.id for demo in problem.demos] == ["pool/2"]
    assert problem.dropped == 2


async def test_the_query_is_never_dropped() -> None:
    """Where not even the query fits, all demonstrations go and the query stays, for the backend to refuse."""
    pipeline = Pipeline(Echo(3), TEMPLATE, Direct(max_tokens=2), selector=Fixed(), k=2)
    await pipeline.afit(POOL)
    with pytest.warns(UserWarning, match="2 demonstrations did not fit"):
        (problem,) = await pipeline.problems(QUERIES[:1])
    assert shown(problem.prompt) == "Q: t0\nA:"


async def test_questions_in_the_pool_are_warned_of_and_not_shown() -> None:
    """A test question that is also in the pool is said, and never stands as its own demonstration."""
    pipeline = Pipeline(Echo(100), TEMPLATE, Direct(), selector=Fixed(), k=3)
    await pipeline.afit(POOL)
    with pytest.warns(UserWarning, match=r"1 of 2 questions are also in the pool"):
        problems = await pipeline.problems([Example("other", {"question": "q1"}), QUERIES[0]])
    assert sorted(d.example.id for d in problems[0].demos) == ["pool/0", "pool/2", "pool/3"]
    assert len(problems[1].demos) == 3


async def test_an_example_that_cannot_be_shown_is_refused_before_any_call() -> None:
    """A pool row without an answer, a row without a rationale, a query without its field: each is named."""
    with pytest.raises(UserError, match="example 'x' has no answer, so it cannot be a demonstration"):
        await Pipeline(Echo(), TEMPLATE, Direct(), Fixed()).afit([Example("x", {"question": "a"})])
    cot = Template("Q: {question}\nA: {answer}", response="{rationale} {answer}")
    with pytest.raises(MissingSlot, match=r"needs \['rationale'\] but example 'pool/0'"):
        await Pipeline(Echo(), cot, Direct(), Fixed()).afit(POOL)
    with pytest.raises(MissingSlot, match=r"needs \['question'\] but example 'x'"):
        await Pipeline(Echo(), TEMPLATE, Direct()).arun([Example("x", {"text": "a"})])
    with pytest.raises(UserError, match="k ≥ 0 and concurrency ≥ 1, got k=-1"):
        Pipeline(Echo(), TEMPLATE, Direct(), k=-1)


async def test_the_meter_counts_what_the_cache_does_not_have(tmp_path: Path) -> None:
    """Two samples of each of three questions: three calls; the second time none. Cost is by the price table."""
    metered = Metered(Echo())
    pipeline = Pipeline(Cached(metered, tmp_path / "x.sqlite"), TEMPLATE, SelfConsistency(n=2))
    first = await pipeline.arun(QUERIES)
    assert (metered.meter.calls, metered.meter.samples, metered.meter.prompt_tokens) == (3, 6, 12)
    assert metered.meter.cost(Price(prompt=1e6, completion=2e6)) == 12 + 2 * 6
    again = await pipeline.arun(QUERIES)
    assert metered.meter.calls == 3
    assert again == first
    await aclose(pipeline.lm)


async def test_the_meter_sees_failures_and_how_many_calls_are_open() -> None:
    """A failed call is counted and its error passes; three calls at once are three."""

    class Broken:
        name = "broken"

        async def generate(self, request: Request) -> list[Completion]:  # noqa: ARG002
            await asyncio.sleep(0)
            raise ModelError("no")

    metered = Metered(Broken())
    results = await asyncio.gather(*(metered.generate(Request("a")) for _ in range(3)), return_exceptions=True)
    assert [type(r) for r in results] == [ModelError] * 3
    assert (metered.meter.failed, metered.meter.most_open) == (3, 3)


async def test_no_room_for_a_prompt_names_the_setting() -> None:
    """A completion larger than the context is refused, not answered with no demonstrations."""
    pipeline = Pipeline(Echo(10), TEMPLATE, Direct(max_tokens=12), selector=Fixed(), k=2)
    await pipeline.afit(POOL)
    with pytest.raises(UserError, match=r"max_tokens=12 leaves no room for a prompt in a context of 10; lower it"):
        await pipeline.problems(QUERIES[:1])


async def test_a_demonstration_without_an_answer_is_never_shown() -> None:
    """Also where it did not come through a pool."""
    pipeline = Pipeline(Echo(100), TEMPLATE, Direct(), selector=Fixed([Example("x", {"question": "a"})]), k=1)
    with pytest.raises(UserError, match="example 'x' has no answer, so it cannot be a demonstration"):
        await pipeline.arun(QUERIES[:1])


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"strategy": Direct}, r"strategy is the class Direct; make one: strategy=Direct\(…\)"),
        ({"selector": Fixed}, r"selector is the class Fixed; make one"),
        ({"template": "Q: {question}"}, r"template is a Template or load_template\(NAME\), got 'Q: {question}'"),
    ],
)
def test_parts_of_the_wrong_kind_are_refused(parts: dict[str, Any], said: str) -> None:
    """A class in place of an object, or a text in place of a template, is said where it is given."""
    given: dict[str, Any] = {"lm": Echo(), "template": TEMPLATE, "strategy": Direct()}
    with pytest.raises(UserError, match=said):
        Pipeline(**(given | parts))


@pytest.mark.parametrize("queries", ["test.jsonl", [{"question": "a"}]])
def test_only_examples_are_answered(queries: Any) -> None:
    """A path or a mapping is refused with what makes examples of it."""
    with pytest.raises(UserError, match=r"a list of Examples, as load_examples\(FILE or rows\) gives; got"):
        Pipeline(Echo(), TEMPLATE, Direct()).run(queries)


def test_a_pool_without_a_selector_is_refused() -> None:
    """It would never be shown."""
    with pytest.raises(UserError, match="without a selector a pipeline shows no demonstrations"):
        Pipeline(Echo(), TEMPLATE, Direct()).fit(POOL)


async def test_an_orderer_gives_the_same_demonstrations_back() -> None:
    """One that loses some is named."""

    class Loses:
        async def order(self, demos: Sequence[Demo], query: Example) -> list[Demo]:  # noqa: ARG002
            return list(demos[1:])

    pipeline = Pipeline(Echo(room=1000), TEMPLATE, Direct(), Fixed(), Loses(), k=2)
    await pipeline.afit(POOL)
    with pytest.raises(UserError, match=r"Loses\.order gave other demonstrations than it got for 'test/0'"):
        await pipeline.arun(QUERIES)


async def test_a_selector_gives_a_list_for_each_query() -> None:
    """One that gives fewer is named."""

    class Nothing:
        async def fit(self, pool: Sequence[Example]) -> None: ...

        async def select(self, queries: Sequence[Example], k: int) -> list[list[Demo]]:  # noqa: ARG002
            return []

    pipeline = Pipeline(Echo(), TEMPLATE, Direct(), Nothing())
    with pytest.raises(UserError, match=r"Nothing\.select gave 0 lists for 3 queries"):
        await pipeline.arun(QUERIES)


async def test_a_trace_prints_its_answer_votes_and_thoughts() -> None:
    """One thought a line, with what it came from."""
    lm = Scripted(lambda request: ["2", "3", "2"][: request.n])
    (trace,) = await Pipeline(lm, TEMPLATE, SelfConsistency(n=3)).arun(QUERIES[:1])
    assert str(trace) == "answer: 2 (2: 2, 3: 1)\n[0] 2\n[1] 3\n[2] 2"
