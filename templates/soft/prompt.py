"""Trained prompts: vectors in the place of words, or keys and values before them.

Dimensions: P soft tokens, H hidden, L layers, K heads of keys and values, D head size.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from templates.errors import UserError
from templates.soft.base import Base

Array = npt.NDArray[Any]  # float32, once a prompt holds it


def kept(numbers: npt.ArrayLike) -> Array:
    """A copy of the numbers in float32 that nothing can change: what was checked stays so, as do digests."""
    copy = np.array(numbers, dtype=np.float32, order="C")
    copy.flags.writeable = False
    return copy


@dataclass(frozen=True, eq=False)
class Trained(ABC):
    """What all trained prompts have in common. Two are equal when their numbers are.

    Args:
        vectors: [P, …] float32, one row for each soft token.
        base: the model it was trained for.
        made: how it was made: method, data, score; for people.
    """

    vectors: Array
    base: Base
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is not a matrix of finite numbers as wide as it should be."""
        vectors = kept(self.vectors)
        if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != self.width:  # noqa: PLR2004 - a matrix
            raise UserError(
                f"a {type(self).__name__} for {self.base.name!r} has shape [tokens, {self.width}], got "
                f"{list(np.shape(self.vectors))}"
            )
        if not np.isfinite(vectors).all():
            raise UserError(
                f"a {type(self).__name__} holds finite numbers, and {(~np.isfinite(vectors)).sum()} are not"
            )
        object.__setattr__(self, "vectors", vectors)

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers of a soft token."""

    @cached_property
    def digest(self) -> str:
        """Of kind, shape and numbers; goes into every cache key."""
        shape = f"{type(self).__name__}{self.vectors.shape}"
        return blake2b(shape.encode() + self.vectors.tobytes(), digest_size=8).hexdigest()

    def __len__(self) -> int:
        """How many soft tokens, P."""
        return len(self.vectors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trained) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} tokens for {self.base.name!r}, {self.digest})"

    def save(self, path: str | Path) -> Path:
        """Write it as a folder in PEFT's format; what was there is replaced when the new one is whole."""
        from templates.soft.folder import write

        return write(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, base: str | None = None) -> Self:
        """What `save` wrote, or an adapter folder of PEFT.

        Args:
            path: the folder.
            base: the name of its model, where the folder says another one and you know better.
        Raises:
            DataError: no such folder, or not a prompt's.
            UserError: a prompt of another kind.
        """
        from templates.soft.folder import read

        found = read(Path(path))
        if not isinstance(found, cls):
            raise UserError(f"{path} holds a {type(found).__name__}, not a {cls.__name__}; load it with that")
        return replace(found, base=replace(found.base, name=base, weights="")) if base else found


@dataclass(frozen=True, eq=False, repr=False)
class SoftPrompt(Trained):
    """Vectors [P, H] that stand in a prompt where text stands (Lester et al. 2021, arXiv:2104.08691)."""

    @property
    def width(self) -> int:
        """H."""
        return self.base.hidden

    def part(self, start: int, stop: int) -> "SoftPrompt":
        """Some of its tokens, for prompts that stand in several places."""
        return replace(self, vectors=self.vectors[start:stop])


@dataclass(frozen=True, eq=False, repr=False)
class Prefix(Trained):
    """Keys and values of every layer, before all text (Li & Liang 2021, arXiv:2101.00190).

    `vectors` is [P, L·2·K·D], as PEFT keeps it: for each token its keys and values, layer by layer. Keys are used as
    they are, without rotary embedding; the text after them starts at position P.
    """

    @property
    def width(self) -> int:
        """L·2·K·D."""
        return self.base.layers * 2 * self.base.kv_heads * self.base.head_size

    @property
    def keys(self) -> Array:
        """[L, K, P, D]."""
        return self._layered[:, 0]

    @property
    def values(self) -> Array:
        """[L, K, P, D]."""
        return self._layered[:, 1]

    @property
    def _layered(self) -> Array:
        base = self.base
        shaped = self.vectors.reshape(len(self), base.layers, 2, base.kv_heads, base.head_size)
        return shaped.transpose(1, 2, 3, 0, 4)  # [L, 2, K, P, D]
