"""Pools that selectors' tests share."""

from collections.abc import Sequence

import numpy as np

from icl import Example
from icl.vectors import Array


def example(name: str, question: str | None = None) -> Example:
    """An example whose question is its id unless given."""
    return Example(name, {"question": name if question is None else question}, "its answer")


def examples(*questions: str, prefix: str = "pool") -> list[Example]:
    """Examples with these questions, named by prefix and place."""
    return [example(f"{prefix}/{i}", question) for i, question in enumerate(questions)]


class Plane:
    """An embedder for texts that begin with an angle in degrees: a point on the unit circle. Remembers the texts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, texts: Sequence[str]) -> Array:
        """The points [N, 2]."""
        self.asked += texts
        angles = np.radians([float(text.split()[0]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)
