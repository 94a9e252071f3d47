"""`icl prompts`: trained prompts, and the tuned models beside them, with what each one cost and what it is worth."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.terminal import AsJson, show
from templates.errors import UserError

if TYPE_CHECKING:
    from eval.listed import Listed, Shown
    from templates.soft.frozen import Frozen


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
        found = with_nearest(found, nearest)
    if as_json:
        typer.echo(json.dumps([one.described() for one in found], indent=1, default=str))
    elif found:
        show(table(found, folder))
        for one in found:
            if one.kind == "Prefix" and nearest:
                typer.echo(f"\n{one.path} is a prefix: keys and values, which are near to no words")
            elif unknown := one.own.get("unknown"):
                typer.echo(f"\n{one.path}, nearest tokens are not known: {unknown}")
            elif words := one.own.get("nearest"):
                typer.echo(f"\n{one.path}, nearest tokens with their cosines:")
                typer.echo("\n".join(f"{number:4}  {'  '.join(its)}" for number, its in enumerate(words)))
    else:
        typer.echo(f"no trained prompts in {folder}")


def with_nearest(found: "Sequence[Listed]", count: int) -> "list[Listed]":
    """What was found, beside each soft prompt its nearest tokens, or why they are not known.

    A model is loaded once for all its prompts, and one at a time is in memory.
    """
    from templates.soft import SoftPrompt

    soft = [one for one in found if one.kind == SoftPrompt.__name__]
    said: dict[Path, Mapping[str, Any]] = {}
    for name in dict.fromkeys(one.base.name for one in soft):
        said |= _near(name, [one.path for one in soft if one.base.name == name], count)
    return [replace(one, own={**one.own, **said.get(one.path, {"nearest": []})}) for one in found]


def _near(model: str, paths: Iterable[Path], count: int) -> dict[Path, Mapping[str, Any]]:
    from eval.models import load_model
    from templates.soft.families import frozen_of

    try:
        frozen = frozen_of(*load_model(model))
    except UserError as error:
        return {path: {"nearest": [], "unknown": str(error)} for path in paths}
    return {path: _in_words(path, frozen, count) for path in paths}


def _in_words(path: Path, frozen: "Frozen", count: int) -> Mapping[str, Any]:
    from templates.soft import SoftPrompt
    from templates.soft.discrete.nearest import nearest_tokens

    try:
        near = nearest_tokens(SoftPrompt.load(path), frozen, count)
    except UserError as error:  # the model has changed since
        return {"nearest": [], "unknown": str(error)}
    return {"nearest": [[f"{one.token!r} {one.cosine:.2f}" for one in its] for its in near]}


def table(found: "Sequence[Listed]", folder: Path | None = None) -> Any:
    """One row for each.

    Args:
        found: what is shown.
        folder: that its paths are told from, where they are in it.
    """
    from rich.table import Table
    from rich.text import Text

    shown = Table(show_lines=True)
    for heading in ("prompt", "for", "method", "data", "trained", "dev"):
        shown.add_column(heading, overflow="fold", no_wrap=heading == "method")
    for one in found:
        made = one.shown
        judged = f"{made.dev.score:.1%} of {made.dev_examples}, loss {made.dev.loss:.3f}" if made.dev else ""
        several = f"{one.own['prompts']:,} prompts, " if "prompts" in one.own else ""
        tokens = f"{one.own['tokens']:,} tokens, " if "tokens" in one.own else ""
        head = f"a classifier of {len(one.own['labels'])} labels, " if "labels" in one.own else ""
        share = f" ({_percent(made.share)})" if made.share else ""
        path = one.path.relative_to(folder) if folder and folder in one.path.parents else one.path
        data = ", ".join([made.data] * bool(made.data) + [f"{made.examples:,} examples"] * bool(made.examples))
        trained = f"{several}{tokens}{head}{one.weights:,} weights{share}"
        cells = (str(path), Path(one.base.name).name, _method(made), data, trained, judged)
        shown.add_row(*map(Text, cells))  # as they are: brackets in a path are no markup
    return shown


def _method(made: "Shown") -> str:
    """As one calls it on the command line, and what is behind it where it can be one thing or another."""
    from eval.registry import REGISTRY

    named = {place.rpartition(":")[2]: name for name, place in REGISTRY["methods"].items()}
    encoder = f", {made.settings['encoder']}" if "encoder" in made.settings else ""
    return f"{named.get(made.method, made.method)}{encoder}"


def _percent(share: float) -> str:
    """With two digits that mean something, however small: 0.0056 %."""
    digits = max(0, 1 - math.floor(math.log10(share * 100)))
    return f"{share * 100:.{digits}f} %"


def _found(folder: Path) -> "list[Listed]":
    """In the folder and below; another kind of adapter, or a broken one, is named, and the others are shown.

    Not those within a mixture, nor what a save that was killed left in a hidden folder.
    """
    from eval.listed import in_folder
    from templates.soft.folder import CONFIG, MIXTURE, TUNED

    found = []
    paths = {file.parent for name in (CONFIG, MIXTURE, TUNED) for file in folder.rglob(name)}
    mixtures = {path for path in paths if (path / MIXTURE).is_file()}
    for path in sorted(paths):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not mixtures.isdisjoint(path.parents):
            continue
        try:
            found.append(in_folder(path))
        except UserError as error:
            typer.echo(f"warning: {error}", err=True)
    return found
