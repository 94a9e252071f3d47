"""`python -m eval` is `icl`."""

from eval.cli import main

main()
