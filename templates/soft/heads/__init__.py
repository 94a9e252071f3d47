"""Deep prompts with a classifier of their own instead of label words (Liu et al. 2022, arXiv:2110.07602, section 3.3).

A linear classifier reads the model's last hidden state: of an encoder at its first token ([CLS]), of a causal model at
the prompt's last one.
"""

from typing import TYPE_CHECKING, Any

from templates.soft.heads.classifier import Classifier

if TYPE_CHECKING:
    from templates.soft.heads.training import train_classifier

__all__ = ["Classifier", "train_classifier"]


def __getattr__(name: str) -> Any:
    """Training needs torch, which is loaded when it is asked for."""
    if name == "train_classifier":
        from templates.soft.heads.training import train_classifier

        return train_classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
