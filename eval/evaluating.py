"""`icl eval`: from options to a run."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.terminal import AsJson, fail, interruptible, own_command, show
from templates.errors import UserError

if TYPE_CHECKING:
    from eval.folder import RunFolder

_SAMPLES = {"self-consistency": "n", "adaptive-self-consistency": "most"}  # what each calls its number of paths

Out = Annotated[Path, typer.Option(help="Run folder; the same command continues what is there.")]


def evaluate_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    task: Annotated[str, typer.Argument(help="What to evaluate on; see `icl list tasks`.")],
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(
            help="Hub name, folder, the server's model name, or the file to replay; without a GPU by default icl-tiny, "
            "the bundled model."
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="vllm (default; of the bundled model transformers), transformers, openai, replay."),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="See `icl list strategies`; by default the task's own, often self-consistency.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Reasoning paths per question.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the samples.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Of the samples; 0 is off.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of the samples; 1 is off.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Per completion.")] = None,
    template: Annotated[str | None, typer.Option(help="Library name or YAML file; by default the task's own.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The task's chat template, for chat models.")] = False,
    selector: Annotated[
        str | None, typer.Option(help="How demonstrations are chosen; see `icl list selectors`.")
    ] = None,
    orderer: Annotated[str, typer.Option(help="How demonstrations are ordered.")] = "similarity",
    k: Annotated[int, typer.Option("-k", "--shots", min=0, help="Demonstrations per question.")] = 8,
    pool: Annotated[str | None, typer.Option(help="File to choose demonstrations from.")] = None,
    demos: Annotated[str | None, typer.Option(help="File or library name of fixed demonstrations.")] = None,
    soft_prompt: Annotated[
        str | None, typer.Option(help="Folder of a trained prompt for this model; see `icl tune`.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Local file of questions; by default the hub's test split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Of an OpenAI-compatible server.")] = None,
    backend_arg: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the backend, such as tensor_parallel_size=2; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
    price_prompt: Annotated[float, typer.Option(help="Per million prompt tokens.")] = 0.0,
    price_completion: Annotated[float, typer.Option(help="Per million completion tokens.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Evaluate a pipeline on a task, or continue where a run was stopped."""
    from eval.config import Part, RunConfig
    from eval.folder import RunFolder
    from eval.progress import progress
    from eval.registry import find
    from eval.runner import evaluate
    from icl.backends.metered import Price
    from icl.tiny import NAME

    model = model or bundled(backend)
    backend = backend or ("transformers" if model == NAME else "vllm")
    known = find("tasks", task)
    strategy = strategy or known.strategy
    find("strategies", strategy)
    if samples is not None and strategy not in _SAMPLES:
        raise UserError(f"--samples is for {' and '.join(_SAMPLES)}; {strategy} asks once")
    if chat and template:
        raise UserError(f"--chat takes the task's own chat template; with --template {template} leave it out")
    if template is None and strategy not in known.templates:
        raise UserError(f"task {task!r} has no template for {strategy!r}; give one with --template")
    zero_shot = strategy == "zero-shot-cot"
    if zero_shot and (selector or pool or demos):
        raise UserError("zero-shot-cot shows no demonstrations; leave out --selector, --pool and --demos")
    params = {
        _SAMPLES.get(strategy, "n"): samples,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "max_tokens": max_tokens or known.max_tokens,
    }
    drawn = pool or not (zero_shot or demos or known.demos)  # demonstrations, where no selector is named
    config = RunConfig(
        task=task,
        model=model,
        backend=Part(**({"base_url": base_url} if base_url else {}) | _pairs(backend_arg or []), name=backend),
        template=template or known.templates[strategy].replace(".v", "-chat.v" if chat else ".v"),
        strategy=Part(name=strategy, **{name: value for name, value in params.items() if value is not None}),
        selector=Part(name=selector) if selector else Part(name="random") if drawn else None,
        orderer=Part(name=orderer),
        k=0 if zero_shot else k,
        pool=pool,
        demos=demos or (None if zero_shot or pool or selector else known.demos),
        soft_prompt=soft_prompt,
        data=data,
        limit=limit,
        seed=seed,
    )
    with interruptible(out), progress() as on_start:
        folder = RunFolder(out)
        report = evaluate(config, folder, price=Price(price_prompt, price_completion), on_start=on_start)
    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    elif report.accuracy:
        show(report.table())
        typer.echo(f"\n{report.signature}\n{own_command()}\n{out}/report.json has it all")
    if report.failed:
        fail(
            f"{report.failed} of {report.questions} questions failed, first: {_first_error(folder)}; "
            "the same command tries them again"
        )


def bundled(backend: str | None) -> str:
    """The model where none is named: the bundled one, on machines where larger ones would not run either.

    Raises:
        UserError: there is a GPU, or a backend that serves a model of its own: either deserves a name.
    """
    from icl.tiny import NAME

    if backend in {"openai", "replay"} or shutil.which("nvidia-smi"):
        raise UserError(f"say which model with --model ({NAME} is the bundled one)")
    typer.echo(f"no --model: this is {NAME}, the bundled one, which does sums and labels and nothing else", err=True)
    return NAME


def _pairs(words: list[str]) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--backend-arg takes KEY=VALUE, got {word!r}")
        if key == "name":
            raise UserError(f"--backend-arg {word}: the backend's name goes to --backend")
        try:
            pairs[key] = json.loads(value)
        except json.JSONDecodeError:
            pairs[key] = value
    return pairs


def _first_error(folder: "RunFolder") -> str:
    return next(row.error for row in folder.rows() if row.error)
