"""`icl tune`: from options to a trained prompt, or to a tuned model to compare it with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.terminal import AsJson, interruptible, show
from templates.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icl.example import Example
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
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Soft tokens, where the template has no slots; 20, of llama-adapter 10.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Of p-tuning: mlp or lstm.")] = None,
    inner: Annotated[
        int | None, typer.Option(min=0, help="Of prefix-tuning: width of the MLP behind the prefix; 0 for none.")
    ] = None,
    classifier: Annotated[
        bool,
        typer.Option(
            "--classifier", help="Of prefix-tuning and p-tuning-v2: with a classifier instead of label words."
        ),
    ] = False,
    layers: Annotated[int | None, typer.Option(min=1, help="Of llama-adapter: how many of the topmost.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Of LoRA's matrices.")] = None,
    init: Annotated[str | None, typer.Option(help="What it begins with: labels, vocabulary, text, uniform, …")] = None,
    text: Annotated[str | None, typer.Option(help="For --init text.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the optimizer, at the most.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows that run at once.")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Batches of a step.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate; of prompts in units of what they begin with.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or adafactor.")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant, linear or cosine.")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="Steps on which the rate rises.")] = None,
    clip: Annotated[
        float | None, typer.Option(min=0, help="Longest gradient that is not shortened; 0 shortens none.")
    ] = None,
    evaluate_every: Annotated[int | None, typer.Option(min=1, help="Steps between two looks at the dev set.")] = None,
    patience: Annotated[int | None, typer.Option(min=0, help="Looks at the dev set without a better one.")] = None,
    keep_every: Annotated[int | None, typer.Option(min=1, help="Steps between two checkpoints.")] = None,
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

    A folder of `--classifier` or of llama-adapter is used in Python alone; no backend runs it.

    What a prompt gives up against training the model itself, the same command says of lora, ia3, bitfit, full and
    linear-probe: same data, template, labels, batches and dev set, one method a command, `icl prompts` side by side.
    """
    from dataclasses import replace

    from eval.evaluating import bundled
    from eval.next_step import found_at, next_step
    from eval.prompts import table
    from eval.registry import build
    from templates.soft import Training
    from templates.soft.checkpoint import FILE
    from templates.soft.folder import check_place

    given: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "accumulate": accumulate,
        "rate": rate,
        "optimizer": optimizer,
        "schedule": schedule,
        "warmup": warmup,
        "clip": clip,
        "evaluate_every": evaluate_every,
        "patience": patience,
        "keep_every": keep_every,
        "recompute": recompute or None,
    }
    check_place(out)
    settings = Training(seed=seed, **_said(given))
    if method == "linear-probe" and (stepwise := sorted(_said(given).keys() - {"batch"})):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in stepwise)
        raise UserError(f"linear-probe is solved and takes no steps; leave out {named}")
    own = {
        "tokens": tokens,
        "init": init,
        "text": text,
        "encoder": encoder,
        "inner": inner,
        "layers": layers,
        "rank": rank,
    }
    made = build("methods", method, **_said(own))

    from eval.loops import Material, alone, loop_of, trained, tried  # loads torch: slips above are told at once

    loop, checkpoints = loop_of(made, classifier=classifier), out.with_name(f"{out.name}.training")
    learnt, judged = _examples(task, train, dev, limit)
    worded = _worded(task, template)
    if labels and worded.verbalizer is not None:
        raise UserError(
            f"template {worded.name!r} has labels of its own, {list(worded.verbalizer.labels)}; leave out --labels, or "
            "change them there"
        )
    if labels:
        worded = replace(worded, verbalizer=_verbalizer(labels, learnt))
    if tokens and worded.soft_tokens not in {0, tokens}:
        raise UserError(
            f"template {worded.name!r} has slots for {worded.soft_tokens} soft tokens, and --tokens says {tokens}; "
            "leave it out, or change the slots"
        )
    with interruptible(out):
        model = model or bundled(None)
        if (checkpoints / FILE).is_file():
            typer.echo(f"going on from {checkpoints}", err=True)
        loaded = _model(model, dtype, device, made, headless=classifier)
        material = Material(loaded, learnt, judged, worded, train or str(task), checkpoints)
        with alone(made, checkpoints):
            if auto:
                made, settings = tried(loop, made, material, settings)
            listed = trained(loop, made, material, settings, out)
    if as_json:
        typer.echo(json.dumps(listed.described(), indent=1, default=str))
        return
    show(table([listed]))
    if listed.shown.dev and listed.made["steps"]:
        typer.echo(found_at(listed, settings.steps, judged))
    typer.echo(f"\n{next_step(listed, model, task, template, labels)}")


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
        raise UserError("say what to learn, once: --train FILE, or --task NAME for a task's own pool")
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
    said: dict[str, list[str]] = {}
    for label, words in ((label.strip(), (words or label).strip().split("|")) for label, _, words in pairs):
        if label in said:
            once = "|".join(dict.fromkeys([*said[label], *words]))
            raise UserError(f"--labels names {label!r} twice; write {label}={once}")
        said[label] = words
    return Verbalizer(said)


def _model(model: str, dtype: str, device: str | None, method: Any, *, headless: bool) -> tuple[Any, Any]:
    import torch

    from eval.models import load_model
    from templates.soft.baselines import BitFit, Full
    from templates.soft.devices import devices

    if dtype == "auto" and isinstance(method, (BitFit, Full)):
        dtype = "float32"  # small steps of the model's own weights are lost in 16 bits
    place = device or devices().own or ("cuda" if torch.cuda.is_available() else "cpu")
    return load_model(model, dtype, place, headless=headless)
