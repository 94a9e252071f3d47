"""What is loaded once: a value that is kept, and so is the reason why there is none."""

from collections.abc import Callable
from threading import RLock
from typing import Any, Generic, TypeVar, overload

from templates.errors import UserError

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - used like property
    """A property that is worked out at its first use, on whatever thread.

    Unlike `functools.cached_property`: threads wait for each other, and a `UserError` is kept as well, so that a model
    that is not there is looked for once and not once for every question.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make, self.__doc__ = make, make.__doc__
        self._lock = RLock()

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._failed = name, f"{name} failed"

    @overload
    def __get__(self, instance: None, owner: type) -> "once[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> "once[T] | T":
        if instance is None:
            return self
        kept = instance.__dict__
        if self._name not in kept:  # a value that is there is found before this is asked
            with self._lock:
                if self._failed in kept:
                    raise kept[self._failed]
                if self._name not in kept:
                    try:
                        kept[self._name] = self._make(instance)
                    except UserError as error:
                        kept[self._failed] = error
                        raise
        return kept[self._name]  # type: ignore[no-any-return]
