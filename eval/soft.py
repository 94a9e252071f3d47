"""The trained prompt of a run: from its folder into the template."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from templates.errors import DataError, Unsupported
from templates.soft import Trained
from templates.soft.baselines.folder import read_notes
from templates.soft.folder import MIXTURE, TUNED
from templates.soft.heads.classifier import NOTES as CLASSIFIER
from templates.soft.made import wording
from templates.template import Template

# Folders with prompts in them that mean nothing alone, by the notes that they have.
_NOT_ALONE = {
    CLASSIFIER: "a classifier and its prefix, which no backend runs; classify in Python with Classifier.load, or train "
    "label words (icl tune without --classifier)",
    MIXTURE: "a mixture of prompts, which no run takes; ask it in Python with icl.mixture, or take one of its prompts",
}


def load_prompt(path: str) -> Trained:
    """The prompt in the folder.

    Raises:
        DataError: no such folder, or not a prompt's.
        Unsupported: something trained that is no prompt; says what it is, and who runs it.
    """
    if not Path(path).is_dir():
        raise DataError(
            f"no folder {path}; `icl prompts` lists those in prompts/, `icl prompts FOLDER` those elsewhere"
        )
    if (Path(path) / TUNED).is_file():
        model = read_notes(Path(path)).model_in(Path(path))
        runs = f"run it with --model {model}" if model else "it classifies in Python, with Probe.load"
        raise Unsupported(f"{path} holds a tuned model, which is no prompt; {runs}")
    for notes, what in _NOT_ALONE.items():
        if (Path(path) / notes).is_file():
            raise Unsupported(f"{path} holds {what}")
    return Trained.load(path)


def with_prompt(template: Template, path: str) -> Template:
    """The template with the prompt in the folder; a warning, where that was trained with another template."""
    prompt = load_prompt(path)
    if other := _otherwise(template, prompt.made):
        warnings.warn(
            f"{path} was trained with {other}; expect less of it, or name its own template with --template",
            stacklevel=2,
        )
    return replace(template, soft=prompt)


def _otherwise(template: Template, made: Mapping[str, Any]) -> str:
    """What is other in the template that the prompt was trained with; nothing where it is the same or not known."""
    now, before = wording(template), made.get("wording")
    if isinstance(before, dict):
        changed = [part for part in now if before.get(part, now[part]) != now[part]]
        return "; ".join(f"{part} {before[part]!r}, and this run has {now[part]!r}" for part in changed)
    known = made.get("template")  # of several tasks, joined by commas; all that older notes have
    if isinstance(known, str) and template.name not in known.split(", "):
        return f"template {known!r}, and this run has {template.name!r}"
    return ""
