"""Classification with label words that only the demonstrations explain, generated."""

from eval.task import Task, generated
from eval.worlds import labels

LABELS = Task(
    name="labels",
    load=generated(lambda: labels.split(0, 500, held_out=True)),
    load_pool=generated(lambda: labels.split(0, 1000, held_out=False)),
    templates={"direct": "labels.v1"},
    strategy="direct",
    max_tokens=8,
    about="generated lines about a topic, whose label word only demonstrations tell; chance is 25 %",
)
