"""Notes beside what a baseline wrote: which method, of which model, from what data, how good, how many weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from templates.errors import DataError
from templates.soft.base import Base
from templates.soft.folder import MERGED, TUNED, json_of, notes_in, write_json

NOTES, KINDS = TUNED, ("adapter", "model", "probe")


@dataclass(frozen=True)
class Notes:
    """What there is to know of a tuned model.

    Args:
        kind: of what the folder holds: "adapter" (and a `merged` model in it), "model", "probe".
        base: the model that it was made of.
        made: how; `weights` were trained, and are that `share` of the model's.
    """

    kind: str
    base: Base
    made: Mapping[str, Any]

    def model_in(self, folder: Path) -> Path | None:
        """The folder that any backend takes for a model, None where there is none."""
        return {"adapter": folder / MERGED, "model": folder}.get(self.kind)


def write_notes(notes: Notes, folder: Path) -> None:
    """Put them into the folder."""
    write_json(folder / NOTES, asdict(notes))


def read_notes(folder: Path) -> Notes:
    """What `write_notes` wrote.

    Raises:
        DataError: there are none, or they are not ours.
    """
    base, made = notes_in(folder / NOTES)
    kind = json_of(folder / NOTES).get("kind")
    if kind not in KINDS:
        raise DataError(f"{folder / NOTES} is of a kind {kind!r}; icl tune writes {', '.join(KINDS)}: tune again")
    return Notes(kind, base, made)
