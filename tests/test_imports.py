import subprocess
import sys

import pytest

LIGHT = "import icl, cot, templates, eval, icl.backends, icl.selectors, icl.orderers, eval.cli"


@pytest.mark.parametrize("heavy", ["torch", "vllm", "transformers", "faiss", "scipy", "pydantic", "matplotlib"])
def test_importing_us_loads_nothing_heavy(heavy: str) -> None:
    """Importing the packages and the command line loads no library that takes long."""
    code = f"import sys; {LIGHT}; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
