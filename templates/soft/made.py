"""How something trained came about, for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from templates.soft.settings import Training
from templates.template import Template

if TYPE_CHECKING:
    from templates.soft.dev import Dev
    from templates.soft.rows import Labelled
    from templates.soft.run import Run


def made_of(
    method: Any, settings: Training, template: Template, examples: "Sequence[Labelled]", steps: int
) -> dict[str, Any]:
    """Method, settings, data, and the step that it is from.

    Args:
        method: a frozen dataclass.
        settings: of the training.
        template: that worded the examples.
        examples: what was learnt.
        steps: after so many.
    """
    return {
        "method": type(method).__name__,
        "settings": {**asdict(method), **asdict(settings), "rate": settings.rate or getattr(method, "rate", None)},
        **learnt(template, examples),
        "steps": steps,
    }


def run_notes(
    run: "Run", method: Any, template: Template, examples: "Sequence[Labelled]", dev: "Sequence[Labelled]"
) -> dict[str, Any]:
    """Of what a run has found: how it came about, and how good it is."""
    made = made_of(method, run.settings, template, examples, run.found_at)
    return {**made, **worth(run.found_dev, dev)}


def learnt(template: Template, examples: "Sequence[Labelled]") -> Mapping[str, Any]:
    """What was learnt, and how it was worded."""
    return {"template": template.name, "wording": wording(template), "examples": len(examples)}


def wording(template: Template) -> dict[str, Any]:
    """What the model reads of a template beside the example: whoever changes it asks a prompt what it did not learn."""
    return {part: getattr(template, part) for part in ("instruction", "text", "response", "chat")}


def worth(dev: "Dev | None", judged: "Sequence[Labelled]") -> Mapping[str, Any]:
    """How good it is on the dev set, where there is one."""
    return {"dev": asdict(dev), "dev_examples": len(judged)} if dev else {}


def cost(kept: int, trained: int, size: int) -> Mapping[str, Any]:
    """How many numbers are kept, which share they are of the model's own, and how many were trained to find them."""
    return {"weights": kept, "share": kept / size, "trained": trained}
