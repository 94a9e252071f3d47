from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from icl.backends.once import once
from templates.errors import UserError


class Loader:
    """Counts how often it loads."""

    def __init__(self) -> None:
        self.tries = 0

    @once
    def value(self) -> int:
        """What is loaded."""
        self.tries += 1
        sleep(0.01)
        return self.tries

    @once
    def missing(self) -> int:
        """What is not there."""
        self.tries += 1
        raise UserError("no such model")

    @once
    def broken(self) -> int:
        """What may work next time."""
        self.tries += 1
        raise OSError("busy")


def test_eight_threads_load_once() -> None:
    """They wait for the first one and get its value."""
    loader = Loader()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: loader.value, range(8))) == {1}


def test_what_is_not_there_is_looked_for_once() -> None:
    """The second one gets the first one's error, at once."""
    loader = Loader()
    for _ in range(3):
        with pytest.raises(UserError, match="no such model"):
            _ = loader.missing
    assert loader.tries == 1


def test_another_failure_is_tried_again() -> None:
    """Only what the user must change is kept."""
    loader = Loader()
    for _ in range(2):
        with pytest.raises(OSError, match="busy"):
            _ = loader.broken
    assert loader.tries == 2


def test_instances_are_apart() -> None:
    """Each loads its own."""
    assert (Loader().value, Loader().value) == (1, 1)
