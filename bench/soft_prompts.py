"""Training soft prompts against PEFT's usual loop, on GSM8K: `python -m bench.soft_prompts`.

The same batches on both sides, then a whole epoch: ours in batches of like length, PEFT's shuffled. Beside it stands
what a bare loop does with ours, which makes logits where answers are and nothing else: so the bars were set. An epoch's
time is estimated without bias from some of its batches: they are sorted by width and cut into as many runs as batches
are measured, one batch of each run is drawn, and counts for its run. `--whole` measures all of them (some hours).
"""

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from resource import RUSAGE_SELF, getrusage
from statistics import median
from time import perf_counter, process_time
from typing import Literal, NamedTuple

from bench.soft_settings import BATCH, LARGE, SETTINGS, Batch, Case, Setting
from bench.table import Figure, report
from bench.word_problems import DATA, rows_in
from icl import Example
from templates.soft import PromptTuning
from templates.soft.rows import epoch

ROWS = 1000


class Cost(NamedTuple):
    """Seconds of a step: on the clock, and of processors; its loss."""

    wall: float
    cpu: float
    loss: float


@dataclass(frozen=True)
class Step:
    """PEFT and ours on one batch, ours and a bare loop on one of our own; how many batches each stands for."""

    theirs: Cost
    same: Cost
    own: Cost
    bare: Cost
    stands_for: int


@dataclass(frozen=True)
class Measured:
    """The steps of a setting, and the largest difference between losses that should be equal."""

    setting: Setting
    steps: Sequence[Step]
    apart: float

    def ratios(self, clock: Literal["wall", "cpu"]) -> tuple[float, float, float]:
        """Same batches: the median of the ratios. Whole epoch: the ratio of the sums, ours and the bare loop's."""
        times = [tuple(getattr(cost, clock) for cost in (s.theirs, s.same, s.own, s.bare)) for s in self.steps]
        weighed = zip(times, (step.stands_for for step in self.steps), strict=True)
        theirs, _, own, bare = (sum(its) for its in zip(*([t * n for t in its] for its, n in weighed), strict=True))
        return median(its[0] / its[1] for its in times), theirs / own, theirs / bare

    def figures(self) -> list[Figure]:
        """On the clock."""
        same, whole, _ = self.ratios("wall")
        return [
            Figure(f"{self.setting.name}: same batches", same, self.setting.same, at_most=False),
            Figure(f"{self.setting.name}: an epoch", whole, self.setting.whole, at_most=False),
        ]

    def note(self) -> str:
        """The bare loop, and all of it in processor time, which says more where others use the machine."""
        same, whole, bare = self.ratios("cpu")
        return (
            f"- {self.setting.name}: a bare loop's epoch {self.ratios('wall')[2]:.2f} ×; in processor time the same "
            f"batches {same:.2f} ×, an epoch {whole:.2f} ×, a bare loop's {bare:.2f} ×"
        )


def measured(setting: Setting, examples: Sequence[Example], count: int) -> Measured:
    """Steps of PEFT and of ours in turns, the first of which warms both up and is not measured."""
    case = Case(setting, examples)
    buckets = epoch(case.rows, BATCH, "0/0")
    first = min(buckets, key=width)
    both = zip(sampled(case.shuffled(), count), sampled(buckets, count), strict=True)
    steps, apart = [], []
    with case.frozen.held():
        theirs, same, own, bare = case.theirs(), case.ours(), case.ours(), case.bare()
        for (shuffled, stands_for), (bucket, _) in [((first, 0), (first, 0)), *both]:
            one, other = timed(theirs.step, shuffled), timed(same.feed, shuffled)
            step = Step(one, other, timed(own.feed, bucket), timed(bare.step, bucket), stands_for)
            steps.append(step)
            if isinstance(setting.method, PromptTuning):
                apart.append(abs(one.loss - other.loss))
            print(
                f"{setting.name}: {len(shuffled)} rows, {width(shuffled)} wide: PEFT {told(one)}, ours {told(other)}; "
                f"own batch, {width(bucket)} wide: {told(step.own)}, a bare loop {told(step.bare)}",
                flush=True,
            )
        apart.append(case.apart(theirs, first))
    return Measured(setting, steps[1:], max(apart))


def sampled(batches: Sequence[Batch], count: int) -> list[tuple[Batch, int]]:
    """So many of the batches, from narrow to wide, each drawn from a run of batches of its width, and how many it has.

    Every batch is as likely as those of its run, so the sum of time · run is, on average, that of all batches. One that
    is not full stands for itself alone.
    """
    rest, random = [batch for batch in batches if len(batch) < BATCH], Random(0)
    ordered = sorted((batch for batch in batches if len(batch) == BATCH), key=width)
    count = min(count, len(ordered))
    ends = [len(ordered) * run // count for run in range(count + 1)]
    runs = [ordered[start:end] for start, end in pairwise(ends)]
    return [*((random.choice(run), len(run)) for run in runs), *((batch, 1) for batch in rest)]


def width(batch: Batch) -> int:
    """Tokens of its longest row."""
    return max(len(row.tokens) for row in batch)


def timed(step: Callable[[Batch], float], batch: Batch) -> Cost:
    """What the step costs."""
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    loss = step(batch)
    return Cost(perf_counter() - wall, process_time() - cpu, loss)


def told(cost: Cost) -> str:
    """For the reader who waits."""
    return f"{cost.wall:.2f} s ({cost.cpu:.2f} s of CPU, loss {cost.loss:.5f})"


def remembered(side: str, examples: Sequence[Example]) -> tuple[int, int]:
    """Most memory of this process in KiB, when all is loaded and after a step on the batch of middle width."""
    case = Case(LARGE, examples)
    batch = sorted(case.shuffled(), key=width)[len(case.rows) // BATCH // 2]
    with case.frozen.held():
        step = case.theirs().step if side == "theirs" else case.ours().feed
        loaded = getrusage(RUSAGE_SELF).ru_maxrss
        step(batch)
    return loaded, getrusage(RUSAGE_SELF).ru_maxrss


def memory(data: Path) -> tuple[Figure, str]:
    """A step of each side, in a process of its own, all told; in the note what the step alone takes."""
    command = [sys.executable, "-m", "bench.soft_prompts", "--data", str(data), "--memory"]
    runs = [subprocess.run([*command, side], check=True, capture_output=True, text=True) for side in ("theirs", "ours")]
    sides = [[kib / 2**20 for kib in json.loads(run.stdout)] for run in runs]
    note = "; ".join(
        f"{side} {loaded:.2f} GiB loaded, {peak:.2f} GiB at most, the step {peak - loaded:.2f} GiB"
        for side, (loaded, peak) in zip(("PEFT", "ours"), sides, strict=True)
    )
    return Figure(f"{LARGE.name}: most memory of the process", sides[1][1] / sides[0][1], 0.5), note


def main() -> int:
    """All settings, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--batches", type=int, default=6, help="of an epoch that are measured")
    parser.add_argument("--whole", action="store_true", help="measure whole epochs")
    parser.add_argument("--only", default="", help="settings whose name has this in it")
    parser.add_argument("--memory", choices=["theirs", "ours"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = [setting for setting in SETTINGS if options.only in setting.name]
    if not settings:
        parser.error(f"no setting has {options.only!r} in its name; there are {[one.name for one in SETTINGS]}")
    examples = rows_in(options.data, ROWS)
    if options.memory:
        print(json.dumps(remembered(options.memory, examples)))
        return 0
    # First of all: a process that is started counts the memory of the one that starts it as its own.
    most, note = memory(options.data)
    print(note, flush=True)
    found = [measured(setting, examples, ROWS if options.whole else options.batches) for setting in settings]
    figures = [figure for one in found for figure in one.figures()]
    apart = Figure("largest difference of losses that should be equal", max(one.apart for one in found), 1e-4, "")
    return report(
        "Training soft prompts against PEFT",
        [*figures, most, apart],
        [
            note,
            f"{len(examples)} rows of GSM8K, {len(found[0].steps)} batches of an epoch measured.",
            "Equal should be prompt tuning's losses, step by step, and every method's losses of PEFT's prompt.",
            "\n".join(one.note() for one in found),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
