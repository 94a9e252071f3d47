"""Training a prompt for a model that stays as it is, whatever the method."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from templates.soft.families import frozen_of
from templates.soft.made import cost
from templates.soft.methods import Method
from templates.soft.prompt import Trained
from templates.soft.rows import Labelled
from templates.soft.settings import Training
from templates.soft.tasks import Lessons, Task, check, joint
from templates.template import Template


def train(
    method: Method,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Labelled],
    template: Template,
    *,
    dev: Sequence[Labelled] = (),
    training: Training | None = None,
    folder: Path | str | None = None,
) -> Trained:
    """Train a prompt on the examples. The model's weights stay as they are, to the bit.

    Args:
        method: what is trained: `PromptTuning()`, `PTuning()`, `PrefixTuning()`, …
        model: of transformers: a causal or a masked language model, or an encoder with a decoder.
        tokenizer: its own.
        examples: with answers; what the prompt is to bring the model to say.
        template: how questions and answers are worded; with soft slots the soft prompt stands there, else in front.
        dev: examples on which prompts are compared; the best one comes back. Without any it is the last one.
        training: how.
        folder: for checkpoints; a training that was stopped there goes on, and ends as if it had not been.

    Returns:
        The prompt; `made` says how it came about. It runs on any backend: `replace(template, soft=prompt)`.

    Raises:
        DataError: an example without an answer, with an unknown label, or without room in the context; names it.
        Diverged: the loss is not a number; says what to lower. The last checkpoint is good.
        RunMismatch: the folder has the checkpoint of another training.
    """
    task = Task(template.name, template, examples, dev)
    return train_together(method, model, tokenizer, [task], training=training, folder=folder)


def train_together(
    method: Method,
    model: Any,
    tokenizer: Any,
    tasks: Sequence[Task],
    *,
    training: Training | None = None,
    folder: Path | str | None = None,
) -> Trained:
    """Train one prompt for several tasks (Liu et al. 2022, arXiv:2110.07602, section 3.3: multi-task learning).

    Rows of all tasks meet in the batches. What is judged is the mean of the tasks' dev scores. The paper goes on with
    each task alone from there; here the shared prompt is what comes out.

    Args:
        method: as in `train`; where it begins with labels, these are the words of all tasks' labels.
        model: as in `train`.
        tokenizer: as in `train`.
        tasks: at least one; those with soft slots have slots for as many tokens.
        training: as in `train`.
        folder: as in `train`.

    Returns:
        The prompt; `made["tasks"]` says of each task how it was worded and what the prompt is worth for it.

    Raises:
        UserError: tasks that cannot be trained together. Else as `train`.
    """
    settings, frozen = training or Training(), frozen_of(model, tokenizer)
    check(method, frozen, tasks, settings)
    with frozen.held():  # nothing is dropped out of what a prompt begins with
        module = method.module(frozen, joint(tasks), settings.seed).to(frozen.device)
    lessons = Lessons(method, frozen, tasks, len(module()), settings)
    run = lessons.learn(module, list(chain(*lessons.rows)), folder)
    prompt = run.found()["prompt"]
    made = lessons.made(run, lessons.devs(prompt) if len(tasks) > 1 else {})
    return method.kind(prompt.numpy(), frozen.base, {**made, **cost(prompt.numel(), run.size, frozen.size)})
