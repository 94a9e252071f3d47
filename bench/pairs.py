"""How two ways of doing the same work are compared: in turns, so that both meet the same moments of the machine."""

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import TypeAlias

Work: TypeAlias = Callable[[], int]  # gives the tokens that it made


@dataclass(frozen=True)
class Run:
    """Wall seconds, this process's own CPU seconds, tokens."""

    wall: float
    cpu: float
    tokens: int


@dataclass(frozen=True)
class Pairs:
    """Runs of the raw work and of ours, pair by pair, without the first pair, which warmed both up."""

    runs: tuple[tuple[Run, Run], ...]

    @property
    def ratios(self) -> list[float]:
        """Our wall time over the raw one's, of each pair."""
        return [ours.wall / raw.wall for raw, ours in self.runs]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)


def in_turn(works: Iterable[tuple[Work, Work]]) -> Pairs:
    """Run each pair, raw work first, and print it; one pair more than is measured."""
    runs = []
    for pair, (raw, ours) in enumerate(works):
        one, other = timed(raw), timed(ours)
        print(
            f"pair {pair}: raw {one.wall:.1f} s ({one.tokens} tokens), ours {other.wall:.1f} s ({other.tokens}), "
            f"own CPU {one.cpu:.2f} and {other.cpu:.2f} s",
            flush=True,
        )
        runs.append((one, other))
    return Pairs(tuple(runs[1:]))


def timed(work: Work) -> Run:
    """The work, done once."""
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    tokens = work()
    return Run(perf_counter() - wall, process_time() - cpu, tokens)
