"""LLaMA-Adapter (Zhang et al. 2023, arXiv:2303.16199): prompts in the topmost layers' attention, behind gates.

Each of these layers makes keys and values of its prompt with its own projections. Text attends to them in a softmax of
its own, and what comes of it, times a gate that is zero at first, is added to what text says to text.
"""

from typing import TYPE_CHECKING, Any

from templates.soft.gated.method import LlamaAdapter
from templates.soft.gated.value import GatedPrompt

if TYPE_CHECKING:
    from templates.soft.gated.attention import applied
    from templates.soft.gated.training import train_adapter

__all__ = ["GatedPrompt", "LlamaAdapter", "applied", "train_adapter"]


def __getattr__(name: str) -> Any:
    """What runs models needs torch, which is loaded when it is asked for."""
    from importlib import import_module

    modules = {"applied": "attention", "train_adapter": "training"}
    if name in modules:
        return getattr(import_module(f"{__name__}.{modules[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
