"""Where a training stands, on disk: written whole, so that one that is killed at any moment goes on from the last."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from templates.errors import DataError, RunMismatch, StorageError

FILE = "checkpoint.pt"


def keep(folder: Path, state: Mapping[str, Any], identity: Mapping[str, str]) -> None:
    """Write the state beside the last one, and put it in its place.

    Raises:
        StorageError: disk full, no permission; the last one is untouched.
    """
    import torch

    new = folder / f".{FILE}.new"  # one that a killed process left is written over
    try:
        with new.open("wb") as file:
            torch.save({"identity": dict(identity), **state}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / FILE)
    except (OSError, RuntimeError) as error:  # torch says so when a file cannot grow
        raise StorageError(
            f"cannot write {folder / FILE}: {error}; the last one is untouched: make room, then run the same again"
        ) from error
    finally:
        new.unlink(missing_ok=True)


def kept(folder: Path, identity: Mapping[str, str]) -> dict[str, Any] | None:
    """The last state, or None where there is none.

    Raises:
        RunMismatch: it is of another training; says what differs.
        DataError: it is no checkpoint. Nothing in it is executed.
    """
    import pickle

    import torch

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        found = dict(state.pop("identity"))
    except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no checkpoint ({error}); remove it to begin anew") from error
    if found != identity:
        names = [name for name in {**found, **identity} if found.get(name) != identity.get(name)]
        said = "; ".join(f"{name}: {found.get(name)} there, {identity.get(name)} here" for name in names)
        raise RunMismatch(f"{path} is of another training ({said}); choose another folder, or remove that one")
    return state
