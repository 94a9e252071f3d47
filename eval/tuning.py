"""`icl tune`: from options to a trained prompt, or to a tuned model to compare it with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.terminal import AsJson, interruptible, show
from templates.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.listed import Listed
    from icl.example import Example
    from templates.soft import Training
    from templates.template import Template
    from templates.verbalizer import Verbalizer

_DEV = 8  # one example in so many is kept for the dev set, where none is given


def tune_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    method: Annotated[str, typer.Argument(help="See `icl list methods`.")],
    out: Annotated[Path, typer.Option(help="Folder of what is trained; the same command continues what was stopped.")],
    model: Annotated[
        str | None, typer.Option(help="Hub name or folder; without a GPU by default icl-tiny, the bundled model.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="File of examples with answers.")] = None,
    dev: Annotated[str | None, typer.Option(help="File of examples to compare prompts on; else an eighth.")] = None,
    task: Annotated[str | None, typer.Option(help="Instead of files: a task's own pool; see `icl list tasks`.")] = None,
    template: Annotated[
        str | None, typer.Option(help="Library name or YAML file; by default the task's, for direct answers.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help='What answers may be: "pos=great|good,neg=bad", "yes,no", or "data" for those of the data.'),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first examples.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Soft tokens, where the template has no slots.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Of LoRA's matrices.")] = None,
    init: Annotated[str | None, typer.Option(help="What the prompt begins with: labels, vocabulary, text, …")] = None,
    text: Annotated[str | None, typer.Option(help="For --init text.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the optimizer, at the most.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows that run at once.")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Batches of a step.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate; of prompts in units of what they begin with.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or adafactor.")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant, linear or cosine.")] = None,
    patience: Annotated[int | None, typer.Option(min=0, help="Looks at the dev set without a better one.")] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="First try a few rates and beginnings on the dev set, briefly.")
    ] = False,
    recompute: Annotated[bool, typer.Option("--recompute", help="Less memory, more time.")] = False,
    dtype: Annotated[str, typer.Option(help="Of the model: auto, float32, bfloat16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="By default the first GPU where there is one.")] = None,
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a prompt for a model that stays as it is, or continue where that was stopped.

    What a prompt gives up against training the model itself, the same command says of lora, ia3, bitfit, full and
    linear-probe: same data, template, labels, batches and dev set, one method a command, `icl prompts` side by side.
    """
    from dataclasses import replace

    from eval.evaluating import bundled
    from eval.prompts import table
    from eval.registry import build
    from templates.soft import Training
    from templates.soft.folder import check_place

    given: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "accumulate": accumulate,
        "rate": rate,
        "optimizer": optimizer,
        "schedule": schedule,
        "patience": patience,
    }
    check_place(out)
    settings = Training(recompute=recompute, seed=seed, **_said(given))
    if method == "linear-probe" and (stepwise := sorted(_said(given).keys() - {"batch"})):
        named = ", ".join(f"--{name}" for name in stepwise)
        raise UserError(f"linear-probe is solved and takes no steps; leave out {named}")
    own = {"tokens": tokens, "init": init, "text": text, "rank": rank}
    made = build("methods", method, **_said(own))
    learnt, judged = _examples(task, train, dev, limit)
    worded = _worded(task, template)
    if labels:
        worded = replace(worded, verbalizer=_verbalizer(labels, learnt))
    with interruptible(out):
        loaded = _model(model or bundled(None), dtype, device, made)
        folder = out.with_name(f"{out.name}.training")
        if auto:
            made, settings = _tried(made, *loaded, learnt, worded, dev=judged, training=settings, folder=folder)
        listed = _trained(made, loaded, learnt, judged, worded, settings, out, folder)
    if as_json:
        typer.echo(json.dumps(listed.described(), indent=1, default=str))
        return
    show(table([listed]))
    where = f"--template {template} " if template else ""
    if listed.base.task != "CAUSAL_LM":
        typer.echo("\nbackends run causal models alone; this one runs in transformers, its adapter or prompt in PEFT")
    elif run := _options(listed, model or "icl-tiny"):
        typer.echo(f"\nicl eval {task or 'TASK'} {where}-k 0 {run} --out runs/…")


def _tried(method: Any, *data: Any, training: Any, **options: Any) -> tuple[Any, Any]:
    """The method and the settings that did best in short trials; what was tried is shown."""
    from dataclasses import replace

    from rich.table import Table

    from templates.soft.baselines import Baseline, LinearProbe
    from templates.soft.trials import run_trials

    if isinstance(method, Baseline | LinearProbe):
        raise UserError(f"--auto tries what prompts begin with, and {type(method).__name__} trains none; leave it out")
    trials = run_trials(method, *data, training=training, **options)
    table = Table("init", "rate", "dev")
    for trial in trials:
        table.add_row(getattr(trial.method, "init", ""), f"{trial.rate:.3g}", str(trial.dev))
    show(table, aside=True)
    return trials[0].method, replace(training, rate=trials[0].rate)


def _trained(  # noqa: PLR0917 - what a training needs
    method: Any,
    loaded: tuple[Any, Any],
    learnt: "Sequence[Example]",
    judged: "Sequence[Example]",
    worded: "Template",
    settings: "Training",
    out: Path,
    folder: Path,
) -> "Listed":
    """Train with the method, save it, and say what there is now."""
    from eval.listed import in_folder
    from templates.soft import train
    from templates.soft.baselines import Baseline, LinearProbe, finetune, probe
    from templates.soft.devices import devices

    if isinstance(method, LinearProbe):
        probed = probe(method, *loaded, learnt, worded, dev=judged, training=settings)
        return in_folder(probed.save(out))
    loop = finetune if isinstance(method, Baseline) else train
    found = loop(method, *loaded, learnt, worded, dev=judged, training=settings, folder=folder)
    if not devices().first:
        raise typer.Exit  # the first process writes what all of them found
    return in_folder(found.save(out))


def _options(listed: "Listed", model: str) -> str:
    """What `icl eval` needs to run it; nothing where it cannot."""
    if "tokens" in listed.own:
        return f"--soft-prompt {listed.path} --model {model}"
    where = listed.model
    return f"--model {where}" if where else ""


def _said(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given."""
    return {key: value for key, value in options.items() if value is not None}


def _examples(
    task: str | None, train: str | None, dev: str | None, limit: int | None
) -> "tuple[Sequence[Example], Sequence[Example]]":
    """What is learnt, and what prompts are compared on; a task's own questions are for evaluation alone."""
    from eval.registry import find
    from icl.loading import load_examples

    if (train is None) == (task is None):
        raise UserError("say what to learn: --train FILE, or --task NAME for a task's own pool")
    examples = load_examples(train, limit=limit) if train else find("tasks", str(task)).load_pool(None, limit)
    if dev is not None:
        return examples, load_examples(dev)
    judged = examples[::_DEV] if len(examples) >= _DEV else []
    return [example for place, example in enumerate(examples) if place % _DEV or not judged], judged


def _worded(task: str | None, template: str | None) -> "Template":
    from eval.registry import find
    from templates import load_template

    if template is None and task is None:
        raise UserError("say how examples are worded with --template (a YAML file, or a name of `icl list templates`)")
    return load_template(template or find("tasks", str(task)).templates["direct"])


def _verbalizer(labels: str, examples: "Sequence[Example]") -> "Verbalizer":
    from templates.verbalizer import Verbalizer

    if labels == "data":
        return Verbalizer(
            {label: [label] for label in sorted({str(e.answer) for e in examples if e.answer is not None})}
        )
    pairs = [part.partition("=") for part in labels.split(",")]
    return Verbalizer({label.strip(): (words or label).strip().split("|") for label, _, words in pairs})


def _model(model: str, dtype: str, device: str | None, method: Any) -> tuple[Any, Any]:
    import torch

    from eval.models import load_model
    from templates.soft.baselines import BitFit, Full
    from templates.soft.devices import devices

    if dtype == "auto" and isinstance(method, (BitFit, Full)):
        dtype = "float32"  # small steps of the model's own weights are lost in 16 bits
    return load_model(model, dtype, device or devices().own or ("cuda" if torch.cuda.is_available() else "cpu"))
