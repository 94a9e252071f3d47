"""`icl tune`: from options to a trained prompt; `icl prompts`: which ones there are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.terminal import AsJson, interruptible, show
from templates.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icl.example import Example
    from templates.soft import Trained
    from templates.template import Template
    from templates.verbalizer import Verbalizer

_DEV = 8  # one example in so many is kept for the dev set, where none is given


def tune_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    method: Annotated[str, typer.Argument(help="See `icl list methods`.")],
    out: Annotated[Path, typer.Option(help="Folder of the prompt; the same command continues what was stopped.")],
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
    init: Annotated[str | None, typer.Option(help="What the prompt begins with: labels, vocabulary, text, …")] = None,
    text: Annotated[str | None, typer.Option(help="For --init text.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the optimizer, at the most.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows that run at once.")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Batches of a step.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate, in units of what the prompt begins with.")] = None,
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
    """Train a prompt for a model that stays as it is, or continue where that was stopped."""
    from dataclasses import replace

    from eval.evaluating import bundled
    from eval.registry import build
    from templates.soft import Training
    from templates.soft import train as trained

    given: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "accumulate": accumulate,
        "rate": rate,
        "optimizer": optimizer,
        "schedule": schedule,
        "patience": patience,
    }
    settings = Training(recompute=recompute, seed=seed, **_said(given))
    own = {"tokens": tokens, "init": init, "text": text}
    made = build("methods", method, **_said(own))
    learnt, judged = _examples(task, train, dev, limit)
    worded = _worded(task, template)
    if labels:
        worded = replace(worded, verbalizer=_verbalizer(labels, learnt))
    with interruptible(out):
        loaded, tokenizer = _model(model or bundled(None), dtype, device)
        kept = out.with_name(f"{out.name}.training")
        if auto:
            made, settings = _tried(made, loaded, tokenizer, learnt, worded, dev=judged, training=settings, folder=kept)
        prompt = trained(made, loaded, tokenizer, learnt, worded, dev=judged, training=settings, folder=kept)
        prompt.save(out)
    if as_json:
        typer.echo(json.dumps(described(out, prompt), indent=1, default=str))
        return
    show(_table({str(out): prompt}))
    where = f"--template {template} " if template else ""
    typer.echo(
        f"\nicl eval {task or 'TASK'} {where}-k 0 --soft-prompt {out} --model {model or 'icl-tiny'} --out runs/…"
    )


def _tried(method: Any, *data: Any, training: Any, **options: Any) -> tuple[Any, Any]:
    """The method and the settings that a probe likes best; what it tried is shown."""
    from dataclasses import replace

    from rich.table import Table

    from templates.soft.probe import probe

    trials = probe(method, *data, training=training, **options)
    table = Table("init", "rate", "dev")
    for trial in trials:
        table.add_row(getattr(trial.method, "init", ""), f"{trial.rate:.3g}", str(trial.dev))
    show(table)
    return trials[0].method, replace(training, rate=trials[0].rate)


def prompts_command(
    folder: Annotated[Path, typer.Argument(help="Where to look, with all folders below.")] = Path("prompts"),
    as_json: AsJson = False,
) -> None:
    """List trained prompts: for which model, by which method, from what data, how good."""
    from templates.errors import DataError
    from templates.soft import Trained

    found: dict[str, Trained] = {}
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; say where the prompts are")
    for config in sorted(folder.rglob("adapter_config.json")):
        try:
            found[str(config.parent)] = Trained.load(config.parent)
        except DataError as error:  # another kind of adapter, or a broken one: it is named, the others are shown
            typer.echo(f"warning: {error}", err=True)
    if as_json:
        typer.echo(json.dumps([described(Path(path), prompt) for path, prompt in found.items()], indent=1, default=str))
    elif found:
        show(_table(found))
    else:
        typer.echo(f"no trained prompts in {folder}")


def _said(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given."""
    return {key: value for key, value in options.items() if value is not None}


def described(path: Path, prompt: "Trained") -> dict[str, Any]:
    """What there is to know of a prompt, for machines."""
    return {
        "path": str(path),
        "kind": type(prompt).__name__,
        "tokens": len(prompt),
        "digest": prompt.digest,
        "base": vars(prompt.base),
        "made": dict(prompt.made),
    }


def _table(prompts: "dict[str, Trained]") -> Any:
    from rich.table import Table

    table = Table()
    for heading in ("prompt", "for", "method", "tokens", "dev"):
        table.add_column(heading, overflow="fold")
    for path, prompt in prompts.items():
        dev = prompt.made.get("dev")
        judged = f"{dev['score']:.1%} of {prompt.made['dev_examples']}, loss {dev['loss']:.3f}" if dev else ""
        method = str(prompt.made.get("method", ""))
        table.add_row(path, Path(prompt.base.name).name, method, f"{len(prompt):,}", judged)
    return table


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


def _model(model: str, dtype: str, device: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    from icl.backends.tokens import load_tokenizer, unloadable
    from icl.tiny import located

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = located(model)
    try:
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(where), load_tokenizer(name)
    except (OSError, ValueError) as error:
        raise unloadable("model", name, error) from error
