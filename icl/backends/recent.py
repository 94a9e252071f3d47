"""Values that are large and take long to read: those used last are kept."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class HasBytes(Protocol):
    """An array, or a tensor."""

    @property
    def nbytes(self) -> int: ...  # noqa: D102


T = TypeVar("T", bound=HasBytes)


class Recent(Generic[T]):
    """`read`, whose last answers are kept.

    Unlike `functools.lru_cache`: as many as fit within some bytes, whatever their number.

    Args:
        read: the value of a name.
        most: bytes; a value that is larger is kept alone, until the next.
    """

    def __init__(self, read: Callable[[str], T], most: int) -> None:
        self._read, self._most = read, most
        self._kept: dict[str, T] = {}  # the one that was used last comes last

    def __call__(self, name: str) -> T:
        """The value of that name; those that were used longest ago make room for it."""
        found = self._kept.pop(name, None)
        if found is None:
            found = self._read(name)
            there = found.nbytes + sum(value.nbytes for value in self._kept.values())
            while self._kept and there > self._most:
                there -= self._kept.pop(next(iter(self._kept))).nbytes
        self._kept[name] = found
        return found
