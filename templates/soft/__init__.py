"""Continuous prompts: trained vectors that stand where words stand."""

from templates.soft.base import Base, base_of
from templates.soft.prompt import Prefix, SoftPrompt, Trained

__all__ = ["Base", "Prefix", "SoftPrompt", "Trained", "base_of"]
