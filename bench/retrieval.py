"""Choosing demonstrations for GSM8K: `python -m bench.retrieval [--data FOLDER] [--limit N]`.

Everything is measured against what one would write without us, in the same run: sentence-transformers' own `encode` in
batches of 32 and one FAISS search; `BM25Okapi.get_scores` for each query.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from bench.table import Figure, report
from icl.embedders import SentenceEncoder
from icl.embedders.encoder import DEFAULT, local_folder
from icl.example import Example
from icl.selectors import BM25, KNN, Selector
from icl.selectors.bm25 import words
from icl.vectors import Array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icl.lm import Embedder

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "gsm8k"
K = 8
PART = 256  # texts of a turn
ASKED = 40  # queries whose get_scores is timed; all of them take minutes


class Known:
    """An embedder that knows all its texts: what is left is the search."""

    def __init__(self, texts: Sequence[str], rows: Array) -> None:
        self.rows = dict(zip(texts, rows, strict=True))

    async def __call__(self, texts: Sequence[str]) -> Array:
        """The vectors, looked up."""
        return np.stack([self.rows[text] for text in texts])


def load(data: Path, part: str, limit: int | None) -> list[Example]:
    """The questions of one part of the data."""
    with (data / f"{part}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [Example(f"{part}/{i}", {"question": row["question"]}) for i, row in enumerate(rows[:limit])]


async def selected(selector: Selector, pool: Sequence[Example], queries: Sequence[Example]) -> float:
    """Seconds to fit and to select."""
    start = perf_counter()
    await selector.fit(pool)
    await selector.select(queries, K)
    return perf_counter() - start


async def encoded(texts: Sequence[str], cache: Path) -> dict[str, tuple[float, Array]]:
    """Seconds and vectors of sentence-transformers' own encode, of our encoder, and of ours in bfloat16.

    They take turns, each with the next part of the texts in the order in which it would batch all of them, so that each
    sees the same moments of the machine, and the batches are those of one call.
    """
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(local_folder(DEFAULT) or DEFAULT))

    async def plain(texts: Sequence[str]) -> Array:
        rows: Array = model.encode(list(texts), batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        return rows

    tokens = [len(ids) for ids in model.tokenizer(list(texts))["input_ids"]]
    by_letters = np.argsort([-len(text) for text in texts], kind="stable")  # as encode does
    by_tokens = np.argsort(tokens, kind="stable")[::-1]
    ways: dict[str, tuple[Embedder, NDArray[np.intp]]] = {
        "plain": (plain, by_letters),
        "float32": (SentenceEncoder(cache=cache), by_tokens),
    }
    if fast_bfloat16():
        ways["bfloat16"] = (SentenceEncoder(dtype="bfloat16", cache=None), by_tokens)
    seconds = dict.fromkeys(ways, 0.0)
    vectors = {name: np.empty((len(texts), 384), np.float32) for name in ways}
    for embed, _ in ways.values():
        await embed(["warm up"])
    for start in range(0, len(texts), PART):
        for name, (embed, order) in ways.items():
            rows = order[start : start + PART]
            begin = perf_counter()
            vectors[name][rows] = await embed([texts[row] for row in rows])
            seconds[name] += perf_counter() - begin
    return {name: (seconds[name], vectors[name]) for name in ways}


def fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and any(flag in cpu.read_text() for flag in ("amx_bf16", "avx512_bf16"))


def searched(rows: Array, asked: Array) -> float:
    """Seconds of one FAISS search."""
    import faiss

    start = perf_counter()
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    index.search(asked, K)
    return perf_counter() - start


def again(cache: str, arguments: argparse.Namespace) -> float:
    """Seconds of a whole process that selects with all vectors on disk."""
    limit = [f"--limit={arguments.limit}"] if arguments.limit else []
    command = [sys.executable, "-m", "bench.retrieval", "--again", f"--data={arguments.data}", *limit]
    start = perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "ICL_CACHE": cache})
    return perf_counter() - start


async def bm25(pool: Sequence[Example], queries: Sequence[Example]) -> tuple[float, float]:
    """Seconds for all queries, top k included: by get_scores one after another (from some of them), and by ours."""
    from rank_bm25 import BM25Okapi

    reference, selector = BM25Okapi([words(e.question) for e in pool]), BM25()
    await selector.fit(pool)
    some = queries[:: max(1, len(queries) // ASKED)]
    each, all_at_once = [], []
    for turn in range(5):  # in turns, so that both meet the same moments of the machine
        start = perf_counter()
        for query in some[turn::5]:
            np.argsort(-reference.get_scores(words(query.question)), kind="stable")[:K]
        each.append((perf_counter() - start) / len(some[turn::5]))
        start = perf_counter()
        await selector.select(queries, K)
        all_at_once.append(perf_counter() - start)
    return median(each) * len(queries), median(all_at_once)


async def measure(arguments: argparse.Namespace) -> int:
    """Run everything and report."""
    pool, queries = load(arguments.data, "train", arguments.limit), load(arguments.data, "test", arguments.limit)
    each, at_once = await bm25(pool, queries)
    texts = [example.question for example in (*pool, *queries)]
    with tempfile.TemporaryDirectory() as cache:
        ways = await encoded(texts, Path(cache))
        second = again(cache, arguments)
    (plain, rows), (full, own) = ways["plain"], ways["float32"]
    search = searched(rows[: len(pool)], rows[len(pool) :])
    select = await selected(KNN(Known(texts, own)), pool, queries)
    figures = [
        Figure("kNN, all of it, against encode + FAISS", (plain + search) / (full + select), 1, at_most=False),
        Figure("encoding in float32 against encode", plain / full, 1.25, at_most=False),
        Figure("kNN with all vectors on disk, the whole process", second, 3, "s"),
        Figure("BM25 against get_scores", each / at_once, 150, at_most=False),
    ]
    if "bfloat16" in ways:
        half = plain / ways["bfloat16"][0]
        figures.append(Figure("encoding in bfloat16 against encode in float32", half, 2.2, at_most=False))
    seconds = (
        f"{len(queries)} queries over {len(pool)} examples, k = {K}. Seconds: encode {plain:.1f}, FAISS {search:.2f}; "
        f"our encoder {full:.1f}, search and the rest {select:.2f}; get_scores {each:.1f} (from {ASKED} queries), "
        f"BM25 {at_once:.2f}. Largest difference between our vectors and encode's: {np.abs(rows - own).max():.1g}."
    )
    notes = [seconds]
    if "bfloat16" not in ways:
        notes.append("bfloat16 was not measured: this processor does not multiply it in hardware.")
    return report("Retrieval", figures, notes)


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--limit", type=int, help="at most so many questions of each part")
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if missing := [name for name in ("train.jsonl", "test.jsonl") if not (arguments.data / name).is_file()]:
        print(f"{arguments.data} has no {', '.join(missing)}: nothing to measure; give GSM8K's folder with --data")
        return 0
    if arguments.again:
        asyncio.run(selected(KNN(), *(load(arguments.data, part, arguments.limit) for part in ("train", "test"))))
        return 0
    return asyncio.run(measure(arguments))


if __name__ == "__main__":
    sys.exit(main())
