"""Deep prompts with a classifier on real text, SST-2 with a small sentence encoder: `python -m bench.real_text`.

Four ways to tell good reviews from bad ones with the encoder all-MiniLM-L6-v2: logistic regression on its hidden
states (at [CLS], and on their mean, for which it was made), deep prompts with a classifier at [CLS], and all weights
trained with a classifier at [CLS]. The last two take the same batches. The rate of deep prompts is the best of 0.01,
0.03 and 0.1 on 300 rows of the dev set after 60 steps. The test set is read once for each.

Dimensions: B rows, T tokens, H hidden, N examples.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.table import Figure, report
from eval.stats import paired, wilson
from icl import Example
from icl.embedders.encoder import DEFAULT, local_folder
from templates import Template
from templates.soft import PTuningV2, Training
from templates.soft.baselines.tuned import Weights
from templates.soft.batches import in_batches
from templates.soft.heads import train_classifier
from templates.soft.heads.headed import Exam, Headed, headed, logprobs
from templates.soft.heads.training import numbered
from templates.soft.regression import regression
from templates.soft.rows import Batch
from templates.soft.run import Run

LABELS = ("0", "1")
TEMPLATE = Template("{text}{answer}", name="sst2")
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # of the regression; the best on the dev set is taken
Right = npt.NDArray[np.bool_]  # [N], for each row of the test set


@dataclass(frozen=True)
class Data:
    """The three parts of SST-2, and how models are trained on them."""

    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]
    steps: int
    batch: int = 32

    def settings(self, rate: float) -> Training:
        """With two looks at the dev set."""
        look = max(1, self.steps // 2)
        return Training(steps=self.steps, batch=self.batch, rate=rate, evaluate_every=look)


def reviews(folder: Path, part: str) -> list[Example]:
    """One part of the set: a line is a label's digit, a space, the review."""
    path = folder / "classification" / "sst2" / f"stsa.binary.{part}"
    if not path.is_file():
        sys.exit(f"{path} is not there; give the folder that has classification/sst2 with --data")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Example(f"{part}/{number}", {"text": line[2:]}, line[0]) for number, line in enumerate(lines)]


def loaded() -> tuple[Any, Any]:
    """The encoder and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    folder = str(local_folder(DEFAULT) or DEFAULT)
    return AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def mean_states(frozen: Headed, batch: Batch) -> Tensor:
    """The mean of each row's hidden states, [B, H]."""
    seen = torch.ones_like(batch.ids) if batch.seen is None else batch.seen
    states: Tensor = frozen.inner.run(batch, None).last_hidden_state
    return (states * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)


def probed(data: Data, read: Callable[[Headed, Batch], Tensor]) -> Right:
    """Logistic regression on what is read of the encoder."""
    frozen = headed(*loaded(), 0, len(LABELS))
    seen, known = [], []
    with frozen.held(), torch.no_grad():
        for part in (data.train, data.dev, data.test):
            rows = numbered(frozen, TEMPLATE, part, LABELS)
            states = in_batches(frozen, rows, data.batch, lambda some: list(read(frozen, some)))
            seen.append(torch.stack(states).double().numpy())
            known.append(np.array([row.tokens[-1] for row in rows]))
    fits = [regression(seen[0], known[0], len(LABELS), strength) for strength in STRENGTHS]
    said = [[(states @ weights.T + bias).argmax(1) for states in seen[1:]] for weights, bias in fits]
    _, best = max(said, key=lambda its: float((its[0] == known[1]).mean()))
    return np.asarray(best == known[2])


def deep(data: Data, tokens: int, rate: float) -> Right:
    """Deep prompts with a classifier at [CLS]."""
    model, tokenizer = loaded()
    found = train_classifier(
        PTuningV2(tokens), model, tokenizer, data.train, TEMPLATE, LABELS, dev=data.dev, training=data.settings(rate)
    )
    print(f"deep prompts: {found.made['dev']}, {found.made['weights']:,} weights ({found.made['share']:.2%})")
    said = found.classify(model, tokenizer, data.test, TEMPLATE)
    return np.array([one == example.answer for one, example in zip(said, data.test, strict=True)])


@dataclass(eq=False)
class Whole(Headed):
    """An encoder all of whose weights are trained, and a classifier; no prefix."""

    head: nn.Linear

    def scores(self, batch: Batch, prompt: Tensor | None) -> Tensor:  # noqa: ARG002 - there is none
        """Each label's score, [B, C]."""
        scores: Tensor = self.head(self.states(batch, None))
        return scores


def whole(data: Data, rate: float) -> Right:
    """All weights of the encoder and a classifier at [CLS]."""
    model, tokenizer = loaded()
    bare = headed(model, tokenizer, 0, len(LABELS))
    head = nn.Linear(bare.base.hidden, len(LABELS))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    frozen = Whole(bare.model, tokenizer, bare.inner, 0, len(LABELS), head)
    rows, dev, test = (numbered(frozen, TEMPLATE, part, LABELS) for part in (data.train, data.dev, data.test))
    weights = [weight for name, weight in bare.model.named_parameters() if not name.startswith("pooler")]
    module = Weights([*weights, *head.parameters()])
    with frozen.held(learning=weights):
        run = Run(frozen, module, data.settings(rate), rate, rows, Exam(frozen, dev, data.batch))
        run.finish(None, "all weights", rows)
        module.load_state_dict(run.found())
        with torch.no_grad():
            said = logprobs(frozen, test, None, data.batch).argmax(1).tolist()
    print(f"all weights: dev {run.best.dev if run.best else 'not looked at'}")
    return np.array([one == row.tokens[-1] for one, row in zip(said, test, strict=True)])


def main() -> int:
    """Measure, print a table with 95 % intervals, and compare each with deep prompts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--tokens", type=int, default=16, help="of the deep prompts")
    parser.add_argument("--rate", type=float, default=0.1, help="of the deep prompts")
    parser.add_argument("--full-rate", type=float, default=1e-4, help="of all weights")
    args = parser.parse_args()
    train, dev, test = (reviews(args.data, part) for part in ("train", "dev", "test"))
    data = Data(train, dev, test, args.steps)
    deepest = f"deep prompts, {args.tokens} tokens, classifier at [CLS]"
    ways: dict[str, Callable[[], Right]] = {
        "linear probe at [CLS]": partial(probed, data, lambda frozen, batch: frozen.states(batch, None)),
        "linear probe of the mean": partial(probed, data, mean_states),
        deepest: partial(deep, data, args.tokens, args.rate),
        "all weights, classifier at [CLS]": partial(whole, data, args.full_rate),
    }
    found: dict[str, Right] = {}
    for name, measure in ways.items():
        start = process_time()
        found[name] = measure()
        right, among = int(found[name].sum()), len(found[name])
        took = f"{process_time() - start:.0f} s of processor time"
        print(f"{name}: {right} of {among}, {right / among:.1%} ({wilson(right, among)}), {took}", flush=True)
    for name in (name for name in ways if name != deepest):
        apart = paired(found[deepest].astype(float), found[name].astype(float))
        print(f"deep prompts - {name}: {apart.difference:+.3f} ({apart.interval}), p = {apart.p_value:.2g}")
    gain = 100 * (found[deepest].mean() - found["linear probe at [CLS]"].mean())
    return report("SST-2", [Figure("deep prompts - linear probe at [CLS]", gain, 0.0, "points", at_most=False)])


if __name__ == "__main__":
    sys.exit(main())
