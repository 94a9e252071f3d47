"""The vote curve: accuracy of the majority of m samples, over m, as a figure."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eval.files import write_whole
from templates.errors import UserError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

# Okabe & Ito's palette, told apart by the colour-blind, and the dashes by a printer without colours.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", "-.", ":")
_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the figure is the same everywhere
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "svg.hashsalt": "vote curve",  # element ids are otherwise random
}


@dataclass(frozen=True)
class Curve:
    """One line of the figure.

    Args:
        label: what the legend calls it.
        mean: [n], accuracy of the majority of m samples at m - 1, from 0 to 1.
        error: [n], its standard error; nan where there is none.
        questions: over how many questions.
    """

    label: str
    mean: Array
    error: Array
    questions: int

    def __post_init__(self) -> None:
        """Refuse what is no curve."""
        if self.mean.ndim != 1 or not len(self.mean) or self.mean.shape != self.error.shape:
            raise UserError(
                f"curve {self.label!r} needs means [n] and errors [n], got shapes {self.mean.shape}, {self.error.shape}"
            )
        if not (np.isfinite(self.mean) & (self.mean >= 0) & (self.mean <= 1)).all():
            raise UserError(f"curve {self.label!r} needs accuracies from 0 to 1, got {self.mean.tolist()}")


def draw(curves: Sequence[Curve], stem: Path, *, title: str = "Majority vote") -> tuple[Path, Path]:
    """Write `stem`.png and `stem`.svg, each whole or not at all; the same curves give the same bytes.

    Shown are the means with a band of one standard error, and as dots the ends, where nothing is estimated from
    subsets: m = 1 is the share of right samples, m = n is the vote that was held.
    """
    figures = {kind: render(curves, kind, title=title) for kind in ("png", "svg")}  # both, before either is written
    png, svg = (write_whole(stem.with_name(f"{stem.name}.{kind}"), content) for kind, content in figures.items())
    return png, svg


def render(curves: Sequence[Curve], kind: str, *, title: str = "Majority vote") -> bytes:
    """The figure as a file's content; `kind` is png or svg."""
    if not curves:
        raise UserError("a figure needs at least one curve, got none")
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(5.2, 3.5 + 0.18 * len(curves)), layout="constrained")  # inches
        lines = _plot(figure.add_subplot(), curves, title)
        # Below the axes: within them it would lie on somebody's curve.
        figure.legend(handles=[*lines, *_keys(curves)], loc="outside lower left", fontsize=8, frameon=False)
        return _saved(figure, kind)


def ticks(n: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 … and n itself, less what would touch n on a logarithmic axis.

    >>> ticks(40), ticks(11)
    ([1, 2, 5, 10, 20, 40], [1, 2, 5, 11])
    """
    steps = (digit * 10**power for power in range(len(str(n))) for digit in (1, 2, 5))
    return [*(step for step in steps if 1.3 * step < n), n]


def _plot(axes: "Axes", curves: Sequence[Curve], title: str) -> "list[Artist]":
    lines: list[Artist] = []
    for i, curve in enumerate(curves):
        m = np.arange(1, len(curve.mean) + 1)
        mean, error = 100 * curve.mean, 100 * curve.error
        colour, dash = _COLOURS[i % len(_COLOURS)], _DASHES[i % len(_DASHES)]
        axes.fill_between(m, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)
        label = f"{curve.label}: {mean[0]:.1f} → {mean[-1]:.1f}"
        lines += axes.plot(m, mean, dash, color=colour, linewidth=1.6, label=label)
        axes.plot(m[[0, -1]], mean[[0, -1]], "o", color=colour, markersize=4.5, clip_on=False, zorder=3)

    most = max(len(curve.mean) for curve in curves)
    axes.set_xscale("log")
    axes.set_xlim(0.93, max(most, 2) * 1.07)
    axes.set_xticks(ticks(most), labels=[str(m) for m in ticks(most)])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("samples that vote, m (log scale)")
    axes.set_ylabel("accuracy of maj@m (% of questions)")
    axes.set_title(title, loc="left", fontsize=10)
    return lines


def _keys(curves: Sequence[Curve]) -> "list[Artist]":
    """What band and dots are, in the grey of no curve."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    dot = Line2D([], [], marker="o", color="0.35", linestyle="", markersize=4.5, label="direct count: m = 1 and m = n")
    if not any(np.isfinite(curve.error).any() for curve in curves):
        return [dot]
    low, high = min(curve.questions for curve in curves), max(curve.questions for curve in curves)
    asked = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return [Patch(color="0.8", linewidth=0, label=f"± 1 standard error over {asked} questions"), dot]


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever the user's own settings are."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield


def _saved(figure: "Figure", kind: str) -> bytes:
    undated = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    if kind not in undated:
        raise UserError(f"a figure is drawn as png or svg, got {kind!r}")
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=200, metadata=undated[kind])
    return file.getvalue()
