from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors.numpy import load_file

from icl.backends import vllm_prefixes as module
from icl.backends.vllm_prefixes import Prefixes
from templates.errors import StorageError
from templates.soft import Base, Prefix

BASE = Base("model", layers=2, kv_heads=1, head_size=4)
A, B, C = (Prefix(np.random.default_rng(seed).normal(size=(3, 16)), BASE) for seed in range(3))
BYTES = 3 * 16 * 4  # of each


@pytest.fixture
def prefixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prefixes]:
    """With room for two files, which may go as soon as nobody uses them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(module, "DISK", 2 * BYTES)
    monkeypatch.setattr(module, "GRACE", -1)
    prefixes = Prefixes()
    yield prefixes
    prefixes.close()
    assert not list(tmp_path.iterdir())


def use(prefixes: Prefixes, *asked: Prefix) -> None:
    """One request after another."""
    for prefix in asked:
        with prefixes.kept(prefix) as words:
            assert words == {"prefix": prefix.digest, "tokens": 3}


def there(tmp_path: Path) -> set[str]:
    """The files."""
    return {path.name for path in tmp_path.glob("icl-prefixes-*/*")}


def names(*prefixes: Prefix) -> set[str]:
    """Their files."""
    return {f"{prefix.digest}.safetensors" for prefix in prefixes}


def test_a_file_has_keys_and_values(prefixes: Prefixes, tmp_path: Path) -> None:
    """[L, 2, P, K, D], as the engine's cache has them: token by token, then head by head."""
    use(prefixes, A)
    [path] = tmp_path.glob("icl-prefixes-*/*")
    both = load_file(path)["prefix"]
    np.testing.assert_array_equal(both[:, 0], A.keys.transpose(0, 2, 1, 3))
    np.testing.assert_array_equal(both[:, 1], A.values.transpose(0, 2, 1, 3))


def test_the_file_used_longest_ago_makes_room(prefixes: Prefixes, tmp_path: Path) -> None:
    """A was used after B, so B goes for C; asked for again it is written again."""
    use(prefixes, A, B, A, C)
    assert there(tmp_path) == names(A, C)
    use(prefixes, B)
    assert there(tmp_path) == names(B, C)


def test_files_in_use_stay(prefixes: Prefixes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; and so do those that were in use just now."""
    with ExitStack() as requests:
        for prefix in (A, A, B):
            requests.enter_context(prefixes.kept(prefix))
        use(prefixes, A, C)
        assert there(tmp_path) == names(A, B, C)
    monkeypatch.setattr(module, "GRACE", 60)
    use(prefixes, Prefix(A.vectors + 1, BASE))
    assert len(there(tmp_path)) == 4


def test_a_full_disk_is_said(prefixes: Prefixes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half-written file stays, and when there is room again the prefix is written."""

    def full(_: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.numpy, "save_file", full)
        with pytest.raises(StorageError, match=r"cannot write .*No space left.*TMPDIR"):
            use(prefixes, A)
    assert there(tmp_path) == set()
    use(prefixes, A)
    assert there(tmp_path) == names(A)


def test_a_folder_that_cannot_be_written_is_said(prefixes: Prefixes, tmp_path: Path) -> None:
    """Whatever the reason: here somebody has cleaned up, and the library has words of its own for that."""
    [folder] = tmp_path.iterdir()
    folder.rmdir()
    with pytest.raises(StorageError, match=rf"cannot write {folder}/{A.digest}.safetensors.*No such file"):
        use(prefixes, A)


def test_no_place_for_temporary_files_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder itself cannot be made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=r"No such file.*TMPDIR"):
        Prefixes()
