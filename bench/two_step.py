"""Two-step problems (zero-shot CoT) through the pipeline against raw generation of the same tokens in two batches."""

import argparse
import asyncio
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench.pairs import in_turn
from bench.self_consistency import ENGINE, our_run, questions, raw_engine
from bench.table import Figure, report
from cot import ZeroShotCoT
from cot.zero_shot import asking, concluding
from icl import Pipeline
from icl.backends import VLLM, Metered
from icl.lm import aclose
from icl.trace import Problem
from templates import load_template
from tests.tiny import make_tiny


def raw_run(engine: Any, problems: list[Problem], strategy: ZeroShotCoT) -> int:
    """All first prompts in one call, then all second ones."""
    from vllm import SamplingParams

    stop = list(problems[0].template.stop)
    first = [asking(problem.prompt, strategy.trigger) for problem in problems]
    thinking = SamplingParams(temperature=0, max_tokens=strategy.max_tokens, stop=stop)
    thoughts = engine.generate(first, thinking, use_tqdm=False)
    second = [concluding(f, t.outputs[0].text, strategy.extract) for f, t in zip(first, thoughts, strict=True)]
    concluding_ = SamplingParams(temperature=0, max_tokens=strategy.answer_tokens, stop=["\n"])
    conclusions = engine.generate(second, concluding_, use_tqdm=False)
    return sum(len(output.outputs[0].token_ids) for output in [*thoughts, *conclusions])


def main() -> int:
    """Pairs in turn; the median of the ratios, and how full the engine was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="hub name or folder; a tiny random one by default")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gsm8k/test.jsonl"))
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    strategy = ZeroShotCoT(max_tokens=64)
    queries = questions(options.questions, options.data)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(make_tiny(Path(folder) / "model", context=4096))
        metered, raw = Metered(VLLM(model, **ENGINE)), raw_engine(model)
        pipeline = Pipeline(metered, load_template("math.zero-shot.v1"), strategy)
        problems = asyncio.run(pipeline.problems(queries))
        busy: list[float] = []  # seconds with an open request, of each of our runs

        def ours() -> int:
            before = metered.meter.busy_seconds
            tokens = our_run(pipeline, queries)
            busy.append(metered.meter.busy_seconds - before)
            return tokens

        pairs = in_turn([(partial(raw_run, raw, problems, strategy), ours)] * (options.pairs + 1))
        asyncio.run(aclose(metered))
        raw.llm_engine.engine_core.shutdown()
    idle = [1 - seconds / run.wall for seconds, (_, run) in zip(busy[1:], pairs.runs, strict=True)]
    return report(
        "Two-step problems against raw generation",
        [
            Figure("wall time", pairs.ratio, 1.15),
            Figure("share of the time without an open request", max(idle), 0.05, ""),
        ],
        [f"{len(queries)} problems, ratios {', '.join(f'{w:.3f}' for w in pairs.ratios)}"],
    )


if __name__ == "__main__":
    sys.exit(main())
