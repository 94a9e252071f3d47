"""What there is to name, with a line about each."""

from difflib import get_close_matches

from eval.registry import REGISTRY, find
from eval.task import Task
from templates.errors import UnknownName
from templates.library import is_demonstrations, library_names, source_of


def catalogue(kind: str | None = None) -> dict[str, dict[str, str]]:
    """For each kind (or the one asked for), the names and the first sentence about each."""
    kinds = [*REGISTRY, "templates"]
    if kind is not None and kind not in kinds:
        near = get_close_matches(kind, kinds, n=1, cutoff=0.4) or kinds
        raise UnknownName(f"no kind {kind!r}; the nearest: {', '.join(near)} (all: {', '.join(kinds)})")
    return {one: _entries(one) for one in kinds if kind in (None, one)}


def _entries(kind: str) -> dict[str, str]:
    if kind == "templates":
        return {name: f"{'(demonstrations) ' * is_demonstrations(name)}{source_of(name)}" for name in library_names()}
    return {name: _about(find(kind, name)) for name in REGISTRY[kind]}


def _about(thing: object) -> str:
    if isinstance(thing, Task):
        return thing.about
    return (thing.__doc__ or "").strip().splitlines()[0]
