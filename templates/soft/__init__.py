"""Continuous prompts: trained vectors that stand where words stand, and how they are trained."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from templates.soft.base import Base, base_of
from templates.soft.methods import Method, PrefixTuning, PromptTuning, PTuning, PTuningV2
from templates.soft.mixture import Mixture, mixed
from templates.soft.prompt import Prefix, SoftPrompt, Trained
from templates.soft.settings import Training

if TYPE_CHECKING:
    from templates.soft.mixing import MixedPrompts, train_mixture
    from templates.soft.multitask import Multitask, train_multitask
    from templates.soft.tasks import Task
    from templates.soft.training import train, train_together

__all__ = [
    "Base",
    "Method",
    "MixedPrompts",
    "Mixture",
    "Multitask",
    "PTuning",
    "PTuningV2",
    "Prefix",
    "PrefixTuning",
    "PromptTuning",
    "SoftPrompt",
    "Task",
    "Trained",
    "Training",
    "base_of",
    "mixed",
    "train",
    "train_mixture",
    "train_multitask",
    "train_together",
]

# Training needs torch, which is loaded when it is asked for.
_LATER = {
    "MixedPrompts": "templates.soft.mixing",
    "Multitask": "templates.soft.multitask",
    "Task": "templates.soft.tasks",
    "train": "templates.soft.training",
    "train_mixture": "templates.soft.mixing",
    "train_multitask": "templates.soft.multitask",
    "train_together": "templates.soft.training",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
