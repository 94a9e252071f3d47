import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval.curve import Curve, draw, render, ticks
from templates.errors import StorageError, UserError

GREY = Curve("T 0.7", np.array([0.5, 0.55, 0.65, 0.7]), np.array([0.02, 0.02, 0.03, 0.03]), questions=1319)
SHORT = Curve("T 1.0", np.array([0.4, 0.45]), np.array([0.02, 0.02]), questions=200)


def test_png_and_svg_are_written(tmp_path: Path) -> None:
    """Two files beside each other, a stem with a dot kept, and nothing left over."""
    png, svg = draw([GREY], tmp_path / "votes.v1", title="GSM8K")
    assert sorted(tmp_path.iterdir()) == [png, svg] == [tmp_path / "votes.v1.png", tmp_path / "votes.v1.svg"]
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    assert (width, height) == (1040, 736)  # 5.2 by 3.68 inches at 200 dots
    assert svg.read_text().startswith("<?xml")


def test_the_same_curves_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """Neither date nor version nor a random id gets into the files."""
    code = (
        "import sys; from pathlib import Path; from tests.eval.test_curve import GREY, SHORT, draw;"
        "draw([GREY, SHORT], Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True)
    draw([GREY, SHORT], tmp_path / "here")
    for kind in ("png", "svg"):
        assert (tmp_path / f"here.{kind}").read_bytes() == (tmp_path / f"there.{kind}").read_bytes()


def test_a_user_setting_changes_nothing() -> None:
    """A matplotlibrc of the user's own does not reach the figure, and comes out of it unchanged."""
    import matplotlib as mpl

    plain = render([GREY], "svg")
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30}):
        assert render([GREY], "svg") == plain
        assert mpl.rcParams["font.size"] == 30


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full half way: the old figure is still there, and nothing else is."""
    (tmp_path / "votes.png").write_text("old")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"cannot write .*votes\.png: .*No space left"):
        draw([GREY], tmp_path / "votes")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("votes.png", "old")]


def test_a_single_question_is_drawn_without_a_band() -> None:
    """Errors of nan draw no band and raise no warning; a curve of one sample is a dot."""
    curve = Curve("one", np.array([1.0]), np.array([np.nan]), questions=1)
    assert render([curve], "png").startswith(b"\x89PNG")


def test_ticks_end_at_the_last_sample() -> None:
    """1, 2, 5, 10 … and n, with nothing so near to n that the numbers touch."""
    assert (ticks(1), ticks(8), ticks(40), ticks(11)) == ([1], [1, 2, 5, 8], [1, 2, 5, 10, 20, 40], [1, 2, 5, 11])


def test_what_is_no_curve_is_refused() -> None:
    """Means and errors have one length, and accuracies are shares, not per cent."""
    with pytest.raises(UserError, match=r"got shapes \(2,\), \(1,\)"):
        Curve("a", np.zeros(2), np.zeros(1), 5)
    with pytest.raises(UserError, match=r"curve 'a' needs accuracies from 0 to 1, got \[56\.5\]"):
        Curve("a", np.array([56.5]), np.zeros(1), 5)


def test_a_figure_needs_a_curve_and_a_format() -> None:
    """No curves, and a format that is not drawn, are refused."""
    with pytest.raises(UserError, match="at least one curve, got none"):
        render([], "png")
    with pytest.raises(UserError, match="png or svg, got 'pdf'"):
        render([GREY], "pdf")
