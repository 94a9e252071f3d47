"""What a trained prompt is compared with: ways to train weights of the model itself, or a classifier on top of it."""

from typing import TYPE_CHECKING, Any

from templates.soft.baselines.folder import Notes, read_notes
from templates.soft.baselines.methods import IA3, Baseline, BitFit, Full, LinearProbe, LoRA

if TYPE_CHECKING:
    from templates.soft.baselines.probing import Probe, probe
    from templates.soft.baselines.tuned import Tuned, finetune

__all__ = [
    "IA3",
    "Baseline",
    "BitFit",
    "Full",
    "LinearProbe",
    "LoRA",
    "Notes",
    "Probe",
    "Tuned",
    "finetune",
    "probe",
    "read_notes",
]


def __getattr__(name: str) -> Any:
    """Training needs torch, which is loaded when it is asked for."""
    from importlib import import_module

    where = {"Probe": "probing", "probe": "probing", "Tuned": "tuned", "finetune": "tuned"}.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{where}"), name)
