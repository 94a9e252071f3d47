"""Word problems of two to five steps, generated: 500 to ask, 2,000 others to draw demonstrations from."""

from eval.task import WORD_PROBLEMS, Task, generated
from eval.worlds import sums

SUMS = Task(
    name="sums",
    load=generated(lambda: sums.split(0, 500, held_out=True)),
    load_pool=generated(lambda: sums.split(1, 2000, held_out=False)),
    templates=WORD_PROBLEMS,
    strategy="self-consistency",
    max_tokens=80,  # a third more than the longest rationale; demonstrations have the rest of a short context
    about="generated word problems of two to five steps, the final number",
)
