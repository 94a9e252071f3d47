"""The figures of docs/soft_prompts.md: `python -m eval.worlds.prompts`, or some of its tables by name.

Everything is learnt on the bundled model from examples of the generated worlds and judged on 500 that are held out,
without demonstrations, by the most likely label.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from random import Random
from typing import Annotated, Any

import numpy as np
import typer

from eval.terminal import run
from eval.worlds import labels, sums
from eval.worlds.distinct import distinct
from icl.example import Example
from icl.tiny import TINY
from templates import Template, Verbalizer, load_template
from templates.soft import Method, PrefixTuning, PromptTuning, PTuning, PTuningV2, Training
from templates.soft.baselines import IA3, Baseline, Full, LoRA
from templates.soft.start import Init, PrefixInit

HELD_OUT, LEARNT = 500, 1000
SHORT = Training(steps=300)
METHODS: tuple[Method | Baseline, ...] = (
    PromptTuning(),
    PTuning(),
    PTuning(encoder="lstm"),
    PrefixTuning(),
    PTuningV2(),
    LoRA(),
    IA3(),
    Full(),
)
INITS: tuple[Init, ...] = ("labels", "vocabulary", "text", "uniform")
PREFIX_INITS: tuple[PrefixInit, ...] = ("text", "vocabulary", "random", "zero")
RATES = (0.01, 0.03, 0.1, 0.3)
LENGTHS = (1, 2, 5, 10, 20, 50, 100)
SEEDS = (0, 1, 2)
TEXT = "Say which word stands for what the line is about:"

Task = tuple[Template, Sequence[Example], Sequence[Example]]  # how it is worded, what is learnt, what is asked


def meanings() -> Task:
    """A new mapping of labels: which word stands for which topic; with demonstrations the model knows how to look."""
    return _labelled(load_template("labels.v1"), labels.split(0, LEARNT, held_out=False), _asked())


def steps() -> Task:
    """A class of sums: how many steps one takes. The model has solved such sums, and never counted."""
    template = Template("Q: {question}\nSteps: {answer}", name="steps")
    return _labelled(template, distinct(_counted(held_out=False), LEARNT), distinct(_counted(held_out=True), HELD_OUT))


def shifted() -> Task:
    """Meanings learnt from pairs of words ("the pan and the fork") and asked in whole lines with stray words."""
    pairs = labels.Episode(0).examples(Random("pairs"), held_out=False, told=labels.Told(words=2))
    return _labelled(load_template("labels.v1"), distinct(pairs, 300), _asked())


def _asked() -> Sequence[Example]:
    return labels.split(0, HELD_OUT, held_out=True)


def _counted(*, held_out: bool) -> Iterator[Example]:
    """Sums with the number of their steps, one after another."""
    random = Random(f"steps/{held_out}")
    for number in count():
        one = sums.drawn(random)
        if one.held_out == held_out:
            yield Example(f"steps/{held_out}/{number}", {"question": sums.story(one, random)}, str(one.steps))


def _labelled(template: Template, learnt: Sequence[Example], asked: Sequence[Example]) -> Task:
    names = sorted({str(one.answer) for one in learnt})
    return replace(template, verbalizer=Verbalizer({name: [name] for name in names})), learnt, asked


def right(method: Method | Baseline | None, training: Training, task: Task) -> float:
    """Share of what is asked that is right after training; an eighth of what is learnt chooses the best step."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from templates.soft import train
    from templates.soft.baselines import finetune
    from templates.soft.discrete.scoring import label_scores
    from templates.soft.families import frozen_of

    template, examples, asked = task
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY), AutoTokenizer.from_pretrained(TINY)
    data: Any = (model, tokenizer, [one for i, one in enumerate(examples) if i % 8], template)
    if isinstance(method, Baseline):
        model = finetune(method, *data, dev=examples[::8], training=training).model
    elif method is not None:
        template = replace(template, soft=train(method, *data, dev=examples[::8], training=training))
    names = template.verbalizer.labels if template.verbalizer else ()
    scores = label_scores(frozen_of(model, tokenizer), [(template, one) for one in asked], names)
    said = [names[place] for place in scores.argmax(1)]
    return float(np.mean([one == example.answer for one, example in zip(said, asked, strict=True)]))


def methods() -> Iterable[str]:
    """What each method reaches with its default settings, and what the model says untrained."""
    tasks = (meanings(), steps(), shifted())
    yield "| method | meanings of labels | steps of a sum | meanings, shifted | seconds |\n|---|---|---|---|---|"
    for method in (None, *METHODS):
        start = time.perf_counter()
        found = " | ".join(f"{right(method, Training(), task):.1%}" for task in tasks)
        yield f"| {method or 'untrained'} | {found} | {(time.perf_counter() - start) / len(tasks):.0f} |"


def inits() -> Iterable[str]:
    """What prompt tuning begins with, and its rate: mean of three seeds, and the lowest, after 300 steps."""
    yield f"| init | {' | '.join(f'rate {rate}' for rate in RATES)} |\n|---|{'---|' * len(RATES)}"
    for init in INITS:
        cells = (_seeds(PromptTuning(init=init, text=TEXT), rate) for rate in RATES)
        yield f"| {init} | {' | '.join(cells)} |"


def lengths() -> Iterable[str]:
    """How many soft tokens: mean of three seeds, and the lowest, after 300 steps."""
    yield f"| tokens | {' | '.join(map(str, LENGTHS))} |\n|---|{'---|' * len(LENGTHS)}"
    yield f"| right | {' | '.join(_seeds(PromptTuning(tokens=tokens)) for tokens in LENGTHS)} |"


def others() -> Iterable[str]:
    """P-tuning and prefixes: encoders, beginnings, rates; mean of three seeds, and the lowest, after 300 steps."""
    settings: list[tuple[Method, tuple[float, ...]]] = [
        (PTuning(encoder="mlp"), (1e-3, 3e-3, 1e-2, 3e-2)),
        (PTuning(encoder="lstm"), (1e-3, 3e-3, 1e-2, 3e-2)),
        *((PrefixTuning(init=init, text=TEXT), (1e-4, 3e-4, 1e-3, 3e-3)) for init in PREFIX_INITS),
        *((PTuningV2(init=init, text=TEXT), (3e-3, 1e-2, 3e-2, 1e-1)) for init in PREFIX_INITS),
    ]
    yield "| method | rates | right |\n|---|---|---|"
    for method, rates in settings:
        cells = [_seeds(method, rate) for rate in rates]
        yield f"| {method} | {', '.join(map(str, rates))} | {' / '.join(cells)} |"


def _seeds(method: Method, rate: float | None = None) -> str:
    """Mean and lowest share of right answers."""
    found = [right(method, replace(SHORT, rate=rate, seed=seed), meanings()) for seed in SEEDS]
    return f"{np.mean(found):.0%} ({min(found):.0%})"


TABLES = {"methods": methods, "inits": inits, "lengths": lengths, "others": others}


def main(tables: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(TABLES)}.")] = None) -> None:
    """Train, ask, and print tables in Markdown."""
    for name in tables or TABLES:
        typer.echo(f"\n{TABLES[name].__doc__}\n")
        for row in TABLES[name]():
            typer.echo(row)


if __name__ == "__main__":
    run(lambda: typer.run(main))
