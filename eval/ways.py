"""The ways in which the bundled model is asked, by `icl demo` and for the figures of its card."""

from dataclasses import dataclass, field
from pathlib import Path

from eval.config import Part, RunConfig
from eval.folder import RunFolder
from eval.progress import progress
from eval.registry import find
from eval.report import Report
from eval.rows import Row
from eval.runner import evaluate
from icl.backends.metered import Price
from icl.tiny import NAME

ROOM = find("tasks", "sums").max_tokens


def _named(name: str) -> Part:
    return Part(name=name)


def _voting(paths: int) -> Part:
    return Part(name="self-consistency", n=paths, max_tokens=ROOM)


@dataclass(frozen=True, eq=False)
class Way:
    """One way to ask.

    Args:
        name: as tables have it.
        task: what is asked.
        strategy: how.
        folder: where the run is kept; two ways of one run may share it.
        selector: of the demonstrations; None shows none.
        orderer: of the demonstrations.
    """

    name: str
    task: str
    strategy: Part
    folder: str
    selector: Part | None = field(default_factory=lambda: _named("random"))
    orderer: Part = field(default_factory=lambda: _named("similarity"))

    def config(self, limit: int, model: str = NAME) -> RunConfig:
        """The run of the first `limit` held-out questions, eight demonstrations each."""
        return RunConfig(
            task=self.task,
            model=model,
            backend=_named("transformers"),
            template=find("tasks", self.task).templates[self.strategy.name],
            strategy=self.strategy,
            selector=self.selector,
            orderer=self.orderer,
            k=8 if self.selector else 0,
            limit=limit,
        )

    def asked(self, out: Path, limit: int, model: str = NAME) -> tuple[Report, list[Row]]:
        """Report and rows, with progress on the terminal; what is in the folder is not asked again."""
        folder = RunFolder(out / self.folder)
        with progress() as on_start:
            report = evaluate(self.config(limit, model), folder, price=Price(), on_start=on_start)
        return report, folder.rows()


DIRECT = Way("direct answer", "sums", Part(name="direct", max_tokens=16), "direct")
CHAIN = Way("chain of thought", "sums", Part(name="few-shot-cot", max_tokens=ROOM), "cot")
VOTE_5 = Way("self-consistency, 5 paths", "sums", _voting(5), "votes")
VOTE_20 = Way("self-consistency, 20 paths", "sums", _voting(20), "votes")
ADAPTIVE = Way(
    "adaptive self-consistency, at most 20",
    "sums",
    Part(name="adaptive-self-consistency", most=20, max_tokens=ROOM),
    "adaptive",
)
ZERO_SHOT = Way("zero-shot chain of thought", "sums", Part(name="zero-shot-cot", max_tokens=ROOM), "zero-shot", None)

_LABEL = Part(name="direct", max_tokens=8)
RANDOM = Way("random demonstrations", "labels", _LABEL, "random")
BM25 = Way("BM25 demonstrations", "labels", _LABEL, "bm25", _named("bm25"))
NEAREST = Way("kNN demonstrations", "labels", _LABEL, "knn", _named("knn"))
NEAREST_FIRST = Way(
    "kNN demonstrations, nearest first", "labels", _LABEL, "knn-reversed", _named("knn"), _named("reversed")
)
