"""What one does with something trained: the command that runs it, or the lines of Python."""

from collections import Counter
from typing import TYPE_CHECKING

from icl.tiny import TINY, located

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.listed import Listed
    from icl.example import Example

_IN_PYTHON = {
    "Classifier": 'Classifier.load("{}").classify(model, tokenizer, examples, template)',
    "GatedPrompt": 'with applied(GatedPrompt.load("{}"), model)',
    "probe": 'Probe.load("{}").classify(model, tokenizer, examples, template)',
}


def next_step(listed: "Listed", model: str, task: str | None, template: str | None, labels: str | None) -> str:
    """How to run it.

    Args:
        listed: what was trained.
        model: that it was trained for.
        task: whose data it was, or None where they were a file's.
        template: that was named, or None.
        labels: that were named beside the template, or None.
    """
    if listed.kind in _IN_PYTHON:
        return f"no backend runs it; in Python: {_IN_PYTHON[listed.kind].format(listed.path)}, see docs/soft_prompts.md"
    if listed.base.task != "CAUSAL_LM":
        return "backends run causal models alone; this one runs in transformers, its adapter or prompt in PEFT"
    name = str(listed.model or model)
    if task is None:
        soft = "" if listed.model else f"\n  soft_prompt: {listed.path}"
        return (
            "icl run pipeline.yaml --input FILE --out answers.jsonl, where pipeline.yaml says:\n"
            f"  model: {name}\n  template: {template}{soft}\n  strategy: direct"
            + ("\nand the template has the labels, so that answers are read as such" if labels else "")
        )
    where = f" --template {template}" if template else ""
    soft = "" if listed.model else f" --soft-prompt {listed.path}"
    # A copy of the bundled model is as small, but only its name says that it needs no engine.
    backend = " --backend transformers" if listed.model and located(model) == TINY else ""
    return f"icl eval {task} -k 0{where}{soft} --model {name}{backend} --out runs/{listed.path.name}"


def found_at(listed: "Listed", steps: int, judged: "Sequence[Example]") -> str:
    """When the best on the dev set was found, and what one reaches there without having learnt anything."""
    [(answer, count)] = Counter(str(example.answer) for example in judged).most_common(1)
    found = f"the best on the dev set was found after {listed.made.get('steps')} of {steps} steps"
    unlearnt = count / len(judged)
    hint = (
        ""
        if listed.made["dev"]["score"] > unlearnt
        else "; no more was learnt: try --auto, more --steps or a lower --rate"
    )
    return f"{found}; {answer!r} for all would be right in {unlearnt:.1%}{hint}"
