"""GSM8K: 1,319 grade-school word problems (Cobbe et al. 2021, arXiv:2110.14168)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eval.task import WORD_PROBLEMS, Task
from icl.example import Example
from icl.loading import load_examples

_CALCULATOR = re.compile(r"<<[^<>]*>>")  # "<<48/2=24>>": notes for a calculator, not words


def _load(source: str | Path | None, limit: int | None, split: str) -> Sequence[Example]:
    examples = load_examples(source or "openai/gsm8k", config="main", split=split, limit=limit)
    return [
        replace(example, rationale=_CALCULATOR.sub("", example.rationale)) if example.rationale else example
        for example in examples
    ]


GSM8K = Task(
    name="gsm8k",
    load=lambda source, limit: _load(source, limit, "test"),
    load_pool=lambda source, limit: _load(source, limit, "train"),
    templates=WORD_PROBLEMS,
    demos="math.demos.v1",
    about="grade-school word problems, the final number (Cobbe et al. 2021)",
)
