"""Word problems of two to five steps, generated: 500 to ask, 2,000 others to draw demonstrations from."""

from eval.task import Task, generated
from eval.worlds import sums

SUMS = Task(
    name="sums",
    load=generated(lambda: sums.split(0, 500, held_out=True)),
    load_pool=generated(lambda: sums.split(1, 2000, held_out=False)),
    templates={
        "direct": "math.direct.v1",
        "few-shot-cot": "math.cot.v1",
        "zero-shot-cot": "math.zero-shot.v1",
        "self-consistency": "math.cot.v1",
        "adaptive-self-consistency": "math.cot.v1",
    },
    strategy="self-consistency",
    about="generated word problems of two to five steps, the final number",
)
