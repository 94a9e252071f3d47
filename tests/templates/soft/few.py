"""A training of few steps, of each method, on one episode of the labels' world."""

from eval.worlds import labels
from icl import Example
from templates.soft import Method, PrefixTuning, PromptTuning, PTuning, PTuningV2, Training

METHODS: list[Method] = [
    PromptTuning(4),
    PTuning(4, encoder="lstm"),
    PTuning(4),
    PrefixTuning(4),
    PTuningV2(4),
]
FEW = Training(steps=4, batch=4, warmup=1, evaluate_every=2, keep_every=2)
EPISODE = labels.Episode(3)


def some(size: int, *, held_out: bool = False) -> list[Example]:
    """Examples of the episode."""
    return list(labels.split(3, size, held_out=held_out))
