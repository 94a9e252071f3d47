"""What goes into the prompt, and what it runs on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from icl.example import Demo, Example
from icl.lm import Completion, Request, Score, Usage
from icl.trace import Problem, Thought, Trace
from icl.votes import Votes

if TYPE_CHECKING:
    from icl.loading import load_examples
    from icl.pipeline import Pipeline

__all__ = [
    "Completion",
    "Demo",
    "Example",
    "Pipeline",
    "Problem",
    "Request",
    "Score",
    "Thought",
    "Trace",
    "Usage",
    "Votes",
    "load_examples",
]

# Loaded when first named: what the foot's users do not need should not cost them time.
_LATER = {"Pipeline": "icl.pipeline", "load_examples": "icl.loading"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
