"""How long a user waits before anything happens."""

import subprocess
import sys
from statistics import median
from time import perf_counter

from bench.table import Figure, report

RUNS = 7


def seconds(*command: str) -> float:
    """Median wall time of the command less that of an empty interpreter."""

    def once(words: tuple[str, ...]) -> float:
        start = perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        return perf_counter() - start

    once(command)
    return median(once(command) for _ in range(RUNS))


def main() -> int:
    """Measure and report."""
    empty = seconds("-c", "pass")
    imports = seconds("-c", "import icl, cot, templates") - empty
    help_ = seconds("-m", "eval", "--help")
    figures = [
        Figure("import icl, cot, templates", imports, 0.3, "s"),
        Figure("icl --help, the whole process", help_, 0.6, "s"),
    ]
    return report("Imports", figures, [f"An empty interpreter takes {empty:.3f} s. Medians of {RUNS}."])


if __name__ == "__main__":
    sys.exit(main())
