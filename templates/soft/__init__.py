"""Continuous prompts: trained vectors that stand where words stand, and how they are trained."""

from typing import TYPE_CHECKING, Any

from templates.soft.base import Base, base_of
from templates.soft.methods import Method, PrefixTuning, PromptTuning, PTuning, PTuningV2
from templates.soft.prompt import Prefix, SoftPrompt, Trained
from templates.soft.settings import Training

if TYPE_CHECKING:
    from templates.soft.training import train

__all__ = [
    "Base",
    "Method",
    "PTuning",
    "PTuningV2",
    "Prefix",
    "PrefixTuning",
    "PromptTuning",
    "SoftPrompt",
    "Trained",
    "Training",
    "base_of",
    "train",
]


def __getattr__(name: str) -> Any:
    """Training needs torch, which is loaded when it is asked for."""
    if name == "train":
        from templates.soft.training import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
