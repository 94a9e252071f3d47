"""Self-consistency through the pipeline against the raw engine: same prompts, same sampling, same engine arguments."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.pairs import Work, in_turn
from bench.table import Figure, report
from cot import SelfConsistency
from icl import Example, Pipeline, load_examples
from icl.backends import VLLM, Cached
from icl.lm import aclose
from icl.selectors import Fixed
from icl.trace import Problem
from templates import load_demonstrations, load_template
from tests.tiny import make_tiny

ENGINE: dict[str, Any] = {"max_model_len": 4096, "dtype": "float32", "enforce_eager": True}


def questions(count: int, data: Path | None) -> list[Example]:
    """GSM8K's test questions where they are at hand, otherwise the library's own with other numbers."""
    if data is not None and data.is_file():
        return load_examples(data, limit=count)
    demos = load_demonstrations("math.demos.v1")
    return [Example(f"q/{i}", {"question": f"({i}) {demos[i % 8]['question']}"}, "0") for i in range(count)]


def raw_engine(model: str) -> Any:
    """vLLM's own offline engine, with the arguments that ours takes on a CPU."""
    from vllm import LLM
    from vllm.platforms import current_platform

    args = dict(ENGINE)
    if current_platform.is_cpu():
        args |= {"enable_chunked_prefill": False, "max_num_batched_tokens": 8192, "kv_cache_memory_bytes": 4 * 2**30}
    return LLM(model, **args)


def raw_run(engine: Any, problems: list[Problem], strategy: SelfConsistency) -> int:
    """All prompts in one call to `LLM.generate`."""
    from vllm import SamplingParams

    params = [
        SamplingParams(
            n=strategy.n,
            temperature=strategy.temperature,
            top_k=strategy.top_k,
            max_tokens=strategy.max_tokens,
            stop=list(problem.template.stop),
            seed=problem.seed,
        )
        for problem in problems
    ]
    outputs = engine.generate([problem.prompt for problem in problems], params, use_tqdm=False)
    return sum(len(sample.token_ids) for output in outputs for sample in output.outputs)


def our_run(pipeline: Pipeline, queries: list[Example]) -> int:
    """The pipeline on all questions."""
    return sum(trace.usage.completion_tokens for trace in pipeline.run(queries))


def main() -> int:
    """Pairs in turn, each with its own seed and store; the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="hub name or folder; a tiny random one by default")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gsm8k/test.jsonl"))
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    strategy = SelfConsistency(n=options.samples, max_tokens=options.max_tokens)
    queries = questions(options.questions, options.data)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(make_tiny(Path(folder) / "model", context=4096))
        ours, raw = VLLM(model, **ENGINE), raw_engine(model)
        pipeline = Pipeline(ours, load_template("math.cot.v1"), strategy, selector=Fixed(), k=8)
        pipeline.fit(load_examples(load_demonstrations("math.demos.v1")))

        def works() -> Iterator[tuple[Work, Work]]:
            for seed in range(options.pairs + 1):
                seeded = replace(pipeline, seed=seed, lm=Cached(ours, Path(folder) / f"{seed}.sqlite"))
                seeded._pool = pipeline._pool  # noqa: SLF001 - the selector is fitted; a copy need not be
                problems = asyncio.run(seeded.problems(queries))
                yield partial(raw_run, raw, problems, strategy), partial(our_run, seeded, queries)

        pairs = in_turn(works())
        asyncio.run(aclose(ours))
        raw.llm_engine.engine_core.shutdown()
    on_top = median(1000 * (ours.cpu - raw.cpu) for raw, ours in pairs.runs) / (len(queries) * options.samples)
    return report(
        "Self-consistency: pipeline + cache + vLLM against LLM.generate",
        [
            Figure("wall time", pairs.ratio, 1.05),
            Figure("own CPU per sample on top", on_top, 0.3, "ms"),
        ],
        [f"{len(queries)} questions, n={options.samples}, ratios {', '.join(f'{w:.3f}' for w in pairs.ratios)}"],
    )


if __name__ == "__main__":
    sys.exit(main())
