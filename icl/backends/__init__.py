"""What prompts run on, and wrappers around it. Each is loaded when it is first named."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icl.backends.cached import Cached
    from icl.backends.metered import Metered, Price
    from icl.backends.openai import OpenAI
    from icl.backends.replay import Replay
    from icl.backends.retrying import Retrying
    from icl.backends.scripted import Scripted
    from icl.backends.transformers import Transformers
    from icl.backends.vllm import VLLM

__all__ = ["VLLM", "Cached", "Metered", "OpenAI", "Price", "Replay", "Retrying", "Scripted", "Transformers"]

_MODULES = {name: name.lower() for name in __all__} | {"Price": "metered"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"icl.backends.{_MODULES[name]}"), name)
