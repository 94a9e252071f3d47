"""The second run of an evaluation: every sample comes from the run folder, the engine is never started."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from bench.table import Figure, report
from eval.config import Part, RunConfig
from icl import Request, load_examples
from icl.backends import Cached, Scripted
from icl.seeds import generator
from templates.prompt import shown
from tests.tiny import make_tiny

QUESTIONS, SAMPLES = 1319, 40


def paths(request: Request) -> list[str]:
    """Some 60 words each, and the right answer two times out of three."""
    prompt = shown(request.prompt)
    number = int(prompt.rsplit("What is ", 1)[1].split()[0])
    wrong = generator(0, prompt).integers(0, 3, size=(request.n, 2))
    said = [2 * number + (int(by) + 1) * (first == 0) for first, by in wrong]
    return ["so " * 60 + f"The answer is {answer}." for answer in said]


def fill(config: RunConfig, data: Path, store: Path) -> None:
    """What a first run leaves behind, without the hour that it would take."""
    pipeline, metered = config.build(store)
    pipeline.lm = Cached(Scripted(paths, name=metered.name), store)
    pipeline.fit(config.examples())
    pipeline.run(load_examples(data))


def main() -> int:
    """Fill a store, then time the whole command as a user would start it again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_tiny(folder / "model", context=4096)
        rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(QUESTIONS)]
        data = folder / "test.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = RunConfig(
            task="gsm8k",
            model=str(model),
            backend=Part(name="vllm", dtype="float32"),
            template="math.cot.v1",
            strategy=Part(name="self-consistency", n=SAMPLES),
            demos="math.demos.v1",
        )
        fill(config, data, folder / "run" / "samples.sqlite")
        command = [
            *(sys.executable, "-m", "eval", "eval", "gsm8k", "--data", str(data), "--model", str(model), "--json"),
            *("--backend-arg", "dtype=float32", "--samples", str(SAMPLES), "--out", str(folder / "run")),
        ]
        start = perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = perf_counter() - start
        session = json.loads((folder / "run" / "sessions.jsonl").read_text())
    return report(
        f"Second run, {QUESTIONS} × {SAMPLES} stored samples",
        [
            Figure("wall time, the whole command", seconds, 20, "s"),
            Figure("engine calls", session["engine"]["calls"], 0, ""),
        ],
        [f"{session['samples_from_store']} samples from the store; outcomes {json.loads(done.stdout)['outcomes']}"],
    )


if __name__ == "__main__":
    sys.exit(main())
