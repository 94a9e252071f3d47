"""Run every benchmark, one process each: `python -m bench`, or some by name: `python -m bench imports rerun`."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SHARED = {"pairs", "peft_training", "soft_settings", "table", "word_problems"}  # what benchmarks are made of


def main() -> int:
    """The number of benchmarks that did not run, or missed a bar."""
    known = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_") and path.stem not in SHARED)
    names = sys.argv[1:] or known
    if unknown := sorted(set(names) - set(known)):
        sys.exit(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}")
    failed = [name for name in names if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode]
    print(f"\n{len(names) - len(failed)} of {len(names)} benchmarks hold their bars", *failed)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
