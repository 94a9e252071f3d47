"""`icl prompts`: trained prompts, and the tuned models beside them, with what each one cost and what it is worth."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.terminal import AsJson, show
from templates.errors import UserError

if TYPE_CHECKING:
    from templates.soft import Base, Trained
    from templates.soft.baselines import Notes


@dataclass(frozen=True)
class Listed:
    """What a folder holds.

    Args:
        path: the folder.
        kind: SoftPrompt, Prefix, adapter, model or probe.
        base: the model that it is for, or was made of.
        made: how.
        weights: how many were trained.
        own: what is said of its kind alone.
        model: the folder that any backend takes for a model, where there is one.
    """

    path: Path
    kind: str
    base: "Base"
    made: Mapping[str, Any]
    weights: int
    own: Mapping[str, Any]
    model: Path | None = None

    def described(self) -> dict[str, Any]:
        """What there is to know of it, for machines."""
        first = {"path": str(self.path), "kind": self.kind, "weights": self.weights, **self.own}
        whole = {"model": str(self.model)} if self.model else {}
        return {**first, **whole, "base": vars(self.base), "made": dict(self.made)}


def of_prompt(path: Path, prompt: "Trained") -> Listed:
    """A prompt, as it is listed."""
    own = {"tokens": len(prompt), "digest": prompt.digest}
    return Listed(path, type(prompt).__name__, prompt.base, prompt.made, prompt.vectors.size, own)


def of_notes(path: Path, notes: "Notes") -> Listed:
    """A tuned model, as it is listed."""
    return Listed(path, notes.kind, notes.base, notes.made, notes.made["weights"], {}, notes.model_in(path))


def prompts_command(
    folder: Annotated[Path, typer.Argument(help="Where to look, with all folders below.")] = Path("prompts"),
    nearest: Annotated[
        int, typer.Option(min=0, help="So many nearest tokens of each soft token; loads the models they are for.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """List trained prompts and tuned models: of which model, by which method, how many weights, how good."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; say where the prompts are")
    found = _found(folder)
    if nearest:
        found = [replace(one, own={**one.own, "nearest": in_words(one, nearest)}) for one in found]
    if as_json:
        typer.echo(json.dumps([one.described() for one in found], indent=1, default=str))
    elif found:
        show(table(found))
        for one in found:
            if words := one.own.get("nearest"):
                typer.echo(f"\n{one.path}, nearest tokens with their cosines:")
                typer.echo("\n".join(f"{number:4}  {'  '.join(its)}" for number, its in enumerate(words)))
    else:
        typer.echo(f"no trained prompts in {folder}")


def in_words(listed: Listed, count: int) -> list[list[str]]:
    """For each token of a soft prompt the nearest tokens of its model; of anything else nothing."""
    from eval.models import load_model
    from templates.soft import SoftPrompt
    from templates.soft.discrete.nearest import nearest_tokens
    from templates.soft.families import frozen_of

    if listed.kind != SoftPrompt.__name__:
        return []
    frozen = frozen_of(*load_model(listed.base.name))
    near = nearest_tokens(SoftPrompt.load(listed.path), frozen, count)
    return [[f"{one.token!r} {one.cosine:.2f}" for one in its] for its in near]


def table(found: Sequence[Listed]) -> Any:
    """One line for each."""
    from rich.table import Table

    shown = Table()
    for heading in ("prompt", "for", "method", "trained", "dev"):
        shown.add_column(heading, overflow="fold")
    for one in found:
        dev, share = one.made.get("dev"), one.made.get("share")
        judged = f"{dev['score']:.1%} of {one.made['dev_examples']}, loss {dev['loss']:.3f}" if dev else ""
        tokens = f"{one.own['tokens']:,} tokens, " if "tokens" in one.own else ""
        trained = f"{tokens}{one.weights:,} weights" + (f" ({_percent(share)})" if share else "")
        shown.add_row(str(one.path), Path(one.base.name).name, str(one.made.get("method", "")), trained, judged)
    return shown


def _percent(share: float) -> str:
    """With two digits that mean something, however small: 0.0056 %."""
    digits = max(0, 1 - math.floor(math.log10(share * 100)))
    return f"{share * 100:.{digits}f} %"


def _found(folder: Path) -> list[Listed]:
    """In the folder and below; another kind of adapter, or a broken one, is named, and the others are shown."""
    from templates.errors import DataError, UserError
    from templates.soft import Trained
    from templates.soft.baselines.folder import NOTES, read_notes
    from templates.soft.folder import CONFIG

    found = []
    for path in sorted({file.parent for name in (CONFIG, NOTES) for file in folder.rglob(name)}):
        try:
            tuned = (path / NOTES).is_file()
            found.append(of_notes(path, read_notes(path)) if tuned else of_prompt(path, Trained.load(path)))
        except (DataError, UserError) as error:
            typer.echo(f"warning: {error}", err=True)
    return found
