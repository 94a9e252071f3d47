"""Self-consistency on vLLM with a soft prompt in front, against the same pipeline with as many tokens of text there."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.pairs import Work, in_turn
from bench.self_consistency import ENGINE, our_run, questions
from bench.table import Figure, report
from cot import SelfConsistency
from icl import Pipeline
from icl.backends import VLLM
from templates import load_template
from templates.soft import SoftPrompt, base_of
from tests.tiny import make_tiny

LEAD = "01234567890123456789"  # twenty tokens: tokenizers here cut digits apart


def soft_prompt(model: str) -> SoftPrompt:
    """As long as `LEAD`, of random numbers: what they are makes no difference to the time."""
    from transformers import AutoConfig

    base = base_of(model, AutoConfig.from_pretrained(model))
    return SoftPrompt(0.3 * np.random.default_rng(0).normal(size=(len(LEAD), base.hidden)), base)


def main() -> int:
    """Pairs in turn, each with its own questions, so that no prompt is known; the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="hub name or folder; a tiny random one by default")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gsm8k/test.jsonl"))
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    queries = questions(options.questions * (options.pairs + 1), options.data)
    template = load_template("math.cot.v1")
    strategy = SelfConsistency(n=options.samples, max_tokens=options.max_tokens)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(make_tiny(Path(folder) / "model", context=4096))
        plain, trained = VLLM(model, **ENGINE), VLLM(model, **ENGINE)
        text = Pipeline(plain, replace(template, text=LEAD + template.text), strategy)
        soft = Pipeline(trained, replace(template, soft=soft_prompt(model)), strategy)
        lengths = asyncio.run(plain.count([one.prompt for one in asyncio.run(text.problems(queries))]))
        if lengths != asyncio.run(plain.count([one.prompt for one in asyncio.run(soft.problems(queries))])):
            sys.exit(f"the tokenizer of {model} does not cut {LEAD!r} into {len(LEAD)} tokens; take another model")

        def works() -> Iterator[tuple[Work, Work]]:
            for start in range(0, len(queries), options.questions):
                some = queries[start : start + options.questions]
                yield partial(our_run, text, some), partial(our_run, soft, some)

        pairs = in_turn(works())
        asyncio.run(plain.aclose())
        asyncio.run(trained.aclose())
    return report(
        "A pipeline with a soft prompt against one with text as long, on vLLM",
        [Figure("wall time", pairs.ratio, 1.1)],
        [
            f"{options.questions} questions, n={options.samples}, prompts of {min(lengths)} to {max(lengths)} tokens",
            f"ratios {', '.join(f'{w:.3f}' for w in pairs.ratios)}",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
