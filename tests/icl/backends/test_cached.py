import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest

from icl.backends import Cached
from icl.backends.cached import runs, sample_keys
from icl.backends.store import Store
from icl.lm import Completion, Request, Score
from templates import Prompt, Turn
from templates.errors import StorageError, Transient, Unsupported


@dataclass
class Counting:
    """Says its seed, and remembers what it was asked."""

    name: str = "counting"
    requests: list[Request] = field(default_factory=list)
    scored: list[str] = field(default_factory=list)

    async def generate(self, request: Request) -> list[Completion]:
        """One completion per sample, told by its seed."""
        self.requests.append(request)
        return [Completion(f"seed {request.seed + i}", tokens=2, prompt_tokens=3) for i in range(request.n)]

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:  # noqa: ARG002
        """The length of each continuation, as a score."""
        self.scored += continuations
        return [Score((-float(len(text)),)) for text in continuations]


BASE = Request("a", n=2, temperature=0.5, top_p=0.9, top_k=5, max_tokens=10, stop=("x",), seed=7)
CHANGED: dict[str, Any] = {
    "prompt": "b",
    "temperature": 0.6,
    "top_p": 0.8,
    "top_k": 6,
    "max_tokens": 11,
    "stop": ("x", "y"),
    "seed": 70,
    "logprobs": True,
    "n": 3,
}


async def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    """The second time everything comes from the file, also in another process's connection."""
    inner = Counting()
    first = await Cached(inner, tmp_path / "x.sqlite").generate(BASE)
    again = await Cached(Counting(), tmp_path / "x.sqlite").generate(BASE)
    assert again == first
    assert len(inner.requests) == 1


def test_the_table_of_changes_is_whole() -> None:
    """A field that is added to Request must be added to the test below."""
    assert set(CHANGED) == {f.name for f in fields(Request)}


@pytest.mark.parametrize("name", CHANGED)
async def test_changing_any_field_is_a_miss(tmp_path: Path, name: str) -> None:
    """The key is the whole request: the engine is asked again when any field differs."""
    inner = Counting()
    cached = Cached(inner, tmp_path / "x.sqlite")
    await cached.generate(BASE)
    await cached.generate(replace(BASE, **{name: CHANGED[name]}))
    assert len(inner.requests) == 2


async def test_another_model_is_a_miss(tmp_path: Path) -> None:
    """The model's name is in the key."""
    await Cached(Counting("one"), tmp_path / "x.sqlite").generate(BASE)
    other = Counting("two")
    await Cached(other, tmp_path / "x.sqlite").generate(BASE)
    assert len(other.requests) == 1


def test_turns_and_text_that_read_alike_have_different_keys() -> None:
    """A chat is not the text that it prints as."""
    assert sample_keys("m", Request((Turn("user", "a"),))) != sample_keys("m", Request("a"))


async def test_forty_samples_grow_to_eighty(tmp_path: Path) -> None:
    """Only the forty that are missing are asked for, in one request that starts at the right seed."""
    inner = Counting()
    cached = Cached(inner, tmp_path / "x.sqlite")
    await cached.generate(replace(BASE, n=40))
    eighty = await cached.generate(replace(BASE, n=80))
    assert [c.text for c in eighty] == [f"seed {7 + i}" for i in range(80)]
    assert [(r.n, r.seed) for r in inner.requests] == [(40, 7), (40, 47)]
    assert (cached.hits, cached.misses) == (40, 80)


async def test_holes_are_filled_at_once(tmp_path: Path) -> None:
    """With samples 2 and 3 stored, samples 0, 1 and 4 are two requests."""
    inner = Counting()
    cached = Cached(inner, tmp_path / "x.sqlite")
    await cached.generate(replace(BASE, n=2, seed=9))
    await cached.generate(replace(BASE, n=5))
    assert [(r.n, r.seed) for r in inner.requests[1:]] == [(2, 7), (1, 11)]


@dataclass
class Slow(Counting):
    """Answers when it is let go; the first requests fail."""

    failures: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, request: Request) -> list[Completion]:
        """As `Counting`, later."""
        done = await super().generate(request)
        await self.go.wait()
        if self.failures:
            self.failures -= 1
            raise Transient("busy")
        return done


async def test_equal_requests_at_the_same_time_are_one(tmp_path: Path) -> None:
    """Three requests that overlap: the model makes each sample once, and all three get them."""
    inner = Slow()
    cached = Cached(inner, tmp_path / "x.sqlite")
    wanted = [replace(BASE, n=4), replace(BASE, n=4), replace(BASE, n=6)]
    asking = [asyncio.create_task(cached.generate(request)) for request in wanted]
    await asyncio.sleep(0)
    inner.go.set()
    four, same, six = [await task for task in asking]
    assert [(r.n, r.seed) for r in inner.requests] == [(4, 7), (2, 11)]
    assert four == same == six[:4]
    assert [c.text for c in six] == [f"seed {7 + i}" for i in range(6)]


async def test_who_waits_for_a_request_that_fails_asks_himself(tmp_path: Path) -> None:
    """One of two equal requests fails: the other one, which waited for it, is not lost."""
    inner = Slow(failures=1)
    cached = Cached(inner, tmp_path / "x.sqlite")
    asking = [asyncio.create_task(cached.generate(BASE)) for _ in range(2)]
    await asyncio.sleep(0)
    inner.go.set()
    failed, done = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(failed, Transient)
    assert [c.text for c in done] == ["seed 7", "seed 8"]  # type: ignore[union-attr]
    assert len(inner.requests) == 2


def test_equal_requests_in_two_event_loops(tmp_path: Path) -> None:
    """Two threads with a loop each ask the same at the same time: neither waits for the other, both are answered."""
    both = threading.Barrier(2)

    class Met(Counting):
        async def generate(self, request: Request) -> list[Completion]:
            await asyncio.to_thread(both.wait, 5)
            return await super().generate(request)

    cached = Cached(Met(), tmp_path / "x.sqlite")
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: asyncio.run(cached.generate(BASE)), range(2))
    assert [c.text for c in one] == [c.text for c in two] == ["seed 7", "seed 8"]


def test_runs() -> None:
    """Ascending numbers are cut where one is missing."""
    assert runs([0, 1, 2, 5, 6, 9]) == [[0, 1, 2], [5, 6], [9]]
    assert runs([]) == []


async def test_scores_are_kept_one_by_one(tmp_path: Path) -> None:
    """A continuation scored before is not scored again beside a new one."""
    inner = Counting()
    cached = Cached(inner, tmp_path / "x.sqlite")
    await cached.score("a", ["one", "three"])
    assert await cached.score("a", ["three", "nine+"]) == [Score((-5.0,)), Score((-5.0,))]
    assert inner.scored == ["one", "three", "nine+"]


async def test_a_model_that_cannot_score_says_so(tmp_path: Path) -> None:
    """The wrapper does not pretend."""

    class Mute:
        name = "mute"

        async def generate(self, request: Request) -> list[Completion]:  # noqa: ARG002
            return []

    with pytest.raises(Unsupported, match="mute cannot score continuations; use VLLM, Transformers, or a vLLM server"):
        await Cached(Mute(), tmp_path / "x.sqlite").score("a", ["b"])


def test_what_another_process_wrote_first_stays(tmp_path: Path) -> None:
    """Two processes that made the same sample go on with the same one: the first that was stored."""
    one, two = Store(tmp_path / "x.sqlite"), Store(tmp_path / "x.sqlite")
    assert one.keep({b"k": "first", b"l": "own"}) == {b"k": "first", b"l": "own"}
    assert two.keep({b"k": "second", b"m": "new"}) == {b"k": "first", b"m": "new"}
    assert len(two) == 3


def test_a_file_that_another_process_makes_is_waited_for(tmp_path: Path) -> None:
    """One that is being written, and not in WAL mode yet: SQLite would say at once that it is locked."""
    other = sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE something (key)")
    done = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    done.start()
    with closing(Store(tmp_path / "x.sqlite")) as store:
        done.join()
        assert store.keep({b"key": "value"}) == {b"key": "value"}
    other.close()


def test_several_processes_lose_nothing(tmp_path: Path) -> None:
    """Four processes write 200 entries each into one file at the same time: 800 are there."""
    code = (
        "import sys; from icl.backends.store import Store; store = Store(sys.argv[1])\n"
        "for i in range(200): store.keep({f'{sys.argv[2]}/{i}'.encode(): 'x' * 500})"
    )
    path = tmp_path / "x.sqlite"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    assert len(Store(path)) == 800


def test_a_killed_process_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """What `keep` returned from is there after SIGKILL."""
    code = (
        "import os, signal, sys; from icl.backends.store import Store; store = Store(sys.argv[1])\n"
        "store.keep({b'a': '1'}); store.keep({b'b': '2'}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "x.sqlite"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert Store(path).read([b"a", b"b"]) == {b"a": "1", b"b": "2"}


def test_a_full_disk_is_said_and_what_was_stored_is_safe(tmp_path: Path) -> None:
    """SQLite's page limit stands in for a full disk: it fails in the same way."""
    store = Store(tmp_path / "x.sqlite")
    store.keep({b"a": "safe"})
    store._connection.execute("PRAGMA max_page_count = 4")
    with pytest.raises(
        StorageError,
        match=r"cannot write to .*x\.sqlite: database or disk is full; what was stored before is safe: free some space",
    ):
        store.keep({b"b": "x" * 100_000})
    assert store.read([b"a", b"b"]) == {b"a": "safe"}


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    """The path and SQLite's reason are in the message."""
    (tmp_path / "x.sqlite").write_text("something else, long enough to be looked at")
    with pytest.raises(StorageError, match=r"cannot open .*x\.sqlite: file is not a database"):
        Store(tmp_path / "x.sqlite")


def test_the_file_is_in_wal_mode(tmp_path: Path) -> None:
    """Readers and a writer do not block each other."""
    Store(tmp_path / "x.sqlite").close()
    with sqlite3.connect(tmp_path / "x.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
