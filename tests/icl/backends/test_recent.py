import numpy as np
import numpy.typing as npt

from icl.backends.recent import Recent


def test_those_used_longest_ago_leave() -> None:
    """Of ten bytes a takes 4, b 3, c 4: c drives out b, as a was used again since; d, of 20, drives out all."""
    sizes, read = {"a": 4, "b": 3, "c": 4, "d": 20}, []

    def zeros(name: str) -> npt.NDArray[np.int8]:
        read.append(name)
        return np.zeros(sizes[name], np.int8)

    recent = Recent(zeros, most=10)
    found = [len(recent(name)) for name in "abacacbddabd"]
    assert found == [sizes[name] for name in "abacacbddabd"]
    assert "".join(read) == "abcbdabd"
