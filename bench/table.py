"""How a benchmark says what it measured: a Markdown table of figures beside their bars."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure and the bar that it should hold (`at_most` or at least)."""

    name: str
    value: float
    bar: float
    unit: str = "×"
    at_most: bool = True

    @property
    def holds(self) -> bool:
        """Whether the bar is held."""
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def report(title: str, figures: Sequence[Figure], notes: Sequence[str] = ()) -> int:
    """Print the table; the exit code is 1 when a bar is missed."""
    print(f"\n### {title}\n\n| figure | measured | bar | holds |\n|---|---|---|---|")
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        print(
            f"| {figure.name} | {figure.value:.3g} {figure.unit} | {sign} {figure.bar:g} {figure.unit} "
            f"| {'yes' if figure.holds else '**no**'} |"
        )
    for note in notes:
        print(f"\n{note}")
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    return int(not all(figure.holds for figure in figures))
