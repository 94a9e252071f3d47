"""Selector → orderer → template → strategy, on a model: fit once, run many."""

import asyncio
import warnings
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from icl.concurrency import LIMIT, gather
from icl.example import Demo, Example
from icl.fewshot import within
from icl.lm import LM, Counting, find
from icl.orderers import BySimilarity, Orderer
from icl.seeds import seed_for
from icl.selectors import Selector
from icl.selectors.leaks import leaked
from icl.trace import Problem, Strategy, Trace
from templates.errors import ModelError, Unsupported, UserError
from templates.template import Template

T = TypeVar("T")

_COMPLETION = 256  # tokens left for the completion where the strategy does not say what it needs


@dataclass
class Pipeline:
    """A way to answer questions with a frozen model.

    Args:
        lm: where the prompts go; usually `Cached(...)` around a backend.
        template: how questions, demonstrations and answers are worded and read.
        strategy: how an answer is reasoned out.
        selector: which demonstrations a question gets; None for none.
        orderer: in which order; most useful last by default.
        k: how many demonstrations.
        seed: of the model's samples; each question draws from its own stream. Selectors and orderers have their own.
        concurrency: questions in progress at once; far more than the engine runs, so that it never waits.
    """

    lm: LM
    template: Template
    strategy: Strategy
    selector: Selector | None = None
    orderer: Orderer = field(default_factory=BySimilarity)
    k: int = 8
    seed: int = 0
    concurrency: int = LIMIT

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.k < 0 or self.concurrency < 1:
            raise UserError(
                f"a pipeline needs k ≥ 0 and concurrency ≥ 1, got k={self.k}, concurrency={self.concurrency}"
            )
        if not isinstance(self.template, Template):
            raise UserError(f"a pipeline's template is a Template or load_template(NAME), got {self.template!r:.80}")
        for part in ("lm", "strategy", "selector", "orderer"):
            if isinstance(value := getattr(self, part), type):
                raise UserError(f"{part} is the class {value.__name__}; make one: {part}={value.__name__}(…)")
        self._pool: tuple[Example, ...] = ()

    def fit(self, pool: Sequence[Example]) -> None:
        """Index the pool of demonstrations. Inside an event loop: `await afit(pool)`."""
        _run(self.afit(pool), "afit")

    def run(self, queries: Sequence[Example]) -> list[Trace]:
        """Answer the questions; traces in their order. Inside an event loop or a notebook: `await arun(queries)`."""
        return _run(self.arun(queries), "arun")

    async def afit(self, pool: Sequence[Example]) -> None:
        """Index the pool of demonstrations, once; refuses an example that could not be shown."""
        _refuse_others_than_examples(pool)
        if pool and self.selector is None:
            raise UserError("without a selector a pipeline shows no demonstrations; give one, such as selector=KNN()")
        for example in pool:
            if example.answer is None:
                raise UserError(f"example {example.id!r} has no answer, so it cannot be a demonstration; leave it out")
            self.template.check(example.shown, example.id, demo=True)
        self._pool = tuple(pool)
        if self.selector is not None and self.k:
            await self.selector.fit(self._pool)

    async def arun(self, queries: Sequence[Example]) -> list[Trace]:
        """Answer the questions, all at once; the first that fails for good stops the others and raises its error."""
        from tqdm import tqdm

        problems = await self.problems(queries)
        with tqdm(total=len(problems), desc="questions", leave=False, delay=1.0, disable=None) as bar:

            async def answered(problem: Problem) -> Trace:
                trace = await self.solve(problem)
                bar.update()
                return trace

            return await gather(answered, problems, limit=self.concurrency)

    async def solve(self, problem: Problem) -> Trace:
        """Answer one question whose demonstrations are chosen."""
        return await self.strategy(problem, self.lm)

    async def problems(self, queries: Sequence[Example]) -> list[Problem]:
        """The questions with their demonstrations: selected for all at once, ordered, and fit into the context."""
        _refuse_others_than_examples(queries)
        for query in queries:
            self.template.check(query.fields, query.id)
        if self._pool and (found := leaked(self._pool, queries)):
            warnings.warn(
                f"{len(found)} of {len(queries)} questions are also in the pool of demonstrations ({found[:3]} …); "
                "none is shown its own answer, but a selector that was trained on the pool has seen them",
                stacklevel=2,
            )
        chosen = await self._demos(queries)
        problems = [
            Problem(query, self.template, tuple(demos), seed=seed_for(self.seed, query.id))
            for query, demos in zip(queries, chosen, strict=True)
        ]
        return await self._fitted(problems)

    async def _demos(self, queries: Sequence[Example]) -> list[list[Demo]]:
        if self.selector is None or self.k == 0:
            return [[] for _ in queries]
        selected = await self.selector.select(queries, self.k)
        if len(selected) != len(queries):
            raise UserError(
                f"{type(self.selector).__name__}.select gave {len(selected)} lists for {len(queries)} queries; "
                "it gives one list of demonstrations for each query"
            )
        return await gather(self._ordered, list(zip(selected, queries, strict=True)), limit=self.concurrency)

    async def _ordered(self, chosen: tuple[list[Demo], Example]) -> list[Demo]:
        demos, query = chosen
        ordered = await self.orderer.order(demos, query)
        if sorted(demo.example.id for demo in demos) != sorted(demo.example.id for demo in ordered):
            raise UserError(
                f"{type(self.orderer).__name__}.order gave other demonstrations than it got for {query.id!r}; "
                "an orderer gives the same ones back"
            )
        return ordered

    async def _fitted(self, problems: list[Problem]) -> list[Problem]:
        counter = find(self.lm, Counting)  # type: ignore[type-abstract]
        if counter is None or not any(problem.demos for problem in problems):
            return problems
        try:
            context = await counter.context()
            budget = context - getattr(self.strategy, "max_tokens", _COMPLETION)
            if budget < 1:
                raise UserError(
                    f"max_tokens={context - budget} leaves no room for a prompt in a context of {context}; lower it"
                )
            fitted = await within(problems, counter, budget)
        except Unsupported:  # a server that does not count: a prompt that is too long comes back as such
            return problems
        except ModelError as error:  # what is stored needs no server
            warnings.warn(f"the prompts could not be counted and go out whole: {error}", stacklevel=3)
            return problems
        if dropped := sum(problem.dropped for problem in fitted):
            short = sum(problem.dropped > 0 for problem in fitted)
            warnings.warn(
                f"{dropped} demonstrations did not fit into {budget} tokens of prompt and were dropped, the least "
                f"useful first, from {short} of {len(problems)} questions; lower k or take a longer context",
                stacklevel=3,
            )
        return fitted


def _refuse_others_than_examples(given: Sequence[Example]) -> None:
    wrong = given if isinstance(given, str) else next((one for one in given if not isinstance(one, Example)), None)
    if wrong is not None:
        raise UserError(f"a pipeline takes a list of Examples, as load_examples(FILE or rows) gives; got {wrong!r:.80}")


def _run(work: Coroutine[Any, Any, T], instead: str) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        inside = False
    else:
        inside = True
    if inside:
        work.close()
        raise UserError(
            f"an event loop is running here (a notebook, an async function): use 'await pipeline.{instead}(...)'"
        )
    return asyncio.run(work)
