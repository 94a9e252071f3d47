import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.embedders import SentenceEncoder, encoder
from icl.embedders.encoder import DEFAULT, batches, default_cache, identity, local_folder
from icl.embedders.store import VectorStore
from icl.vectors import Array
from templates.errors import UserError

TEXTS = [
    "How many apples are left?",
    "A train leaves at noon. " * 9,
    "Tom has 3 dogs and buys 4 more; each eats 2 cups a day. How many cups in a week?",
    "x",
    "",
    "How many apples are left?",
    "Größe: 5 µm — naïve",
]


@pytest.fixture(scope="module")
def encoded() -> SentenceEncoder:
    """The default encoder without a cache, loaded once."""
    return SentenceEncoder(cache=None, device="cpu", tokens_per_batch=64)


@pytest.fixture
def never_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that must do without its model."""

    def load(*_: object) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr(encoder, "_load", load)


async def test_equals_sentence_transformers(encoded: SentenceEncoder) -> None:
    """Vectors are those of the model's own encode to 1e-5, in the order of the texts, with length one."""
    vectors = await encoded(TEXTS)
    expected = encoded._model().encode(TEXTS, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors.dtype == np.float32
    assert (vectors[0] == vectors[5]).all()


async def test_bfloat16_differs_little(encoded: SentenceEncoder) -> None:
    """In bfloat16 each number is within 0.01, and each vector within a cosine of 0.999."""
    half = await SentenceEncoder(cache=None, device="cpu", dtype="bfloat16")(TEXTS)
    full = await encoded(TEXTS)
    np.testing.assert_allclose(half, full, atol=1e-2)
    assert ((half * full).sum(axis=1) > 0.999).all()


async def test_long_texts_are_cut_with_a_warning(encoded: SentenceEncoder) -> None:
    """Texts beyond 256 tokens are counted once for all of them; what comes after makes no difference."""
    long = ["apple " * 300, "apple " * 300 + "pear", "short"]
    with pytest.warns(UserWarning, match="2 of 3 texts are longer than the 256 tokens") as warned:
        vectors = await encoded(long)
    assert len(warned) == 1
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


async def test_no_texts(encoded: SentenceEncoder) -> None:
    """No texts are no vectors."""
    assert (await encoded([])).shape == (0, 0)


async def test_the_second_time_needs_no_model(encoded: SentenceEncoder, tmp_path: Path) -> None:
    """Vectors come back from disk to the last bit; only new texts go to the model."""
    first = SentenceEncoder(cache=tmp_path)
    first._loaded = encoded._model()
    vectors = await first(TEXTS)
    code = (
        "import asyncio, sys; from pathlib import Path; from icl.embedders import SentenceEncoder\n"
        f"rows = asyncio.run(SentenceEncoder(cache=Path({str(tmp_path)!r}))({TEXTS!r}))\n"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & {*sys.modules}\n"
        "sys.stdout.buffer.write(rows.tobytes())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert out == vectors.tobytes()


async def test_only_what_is_new_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three texts, two known, one goes to the model; a text asked twice goes once."""
    asked: list[list[str]] = []

    def encode(self: SentenceEncoder, texts: list[str]) -> Iterator[tuple[list[str], Array]]:  # noqa: ARG001
        asked.append(texts)
        yield texts, np.array([[len(text), 0] for text in texts], np.float32)

    monkeypatch.setattr(SentenceEncoder, "_encode", encode)
    await SentenceEncoder(cache=tmp_path)(["a", "bb", "a"])
    rows = await SentenceEncoder(cache=tmp_path)(["bb", "ccc", "a"])
    assert asked == [["a", "bb"], ["ccc"]]
    assert rows[:, 0].tolist() == [2, 3, 1]


@pytest.mark.usefixtures("never_loads")
async def test_dtype_and_weights_are_part_of_the_key(tmp_path: Path) -> None:
    """Another dtype, or a folder in which one byte of the weights differs, finds nothing of the others' vectors."""
    for name, weights in (("a", b"1"), ("b", b"2"), ("same", b"1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    encoders = [
        SentenceEncoder(str(tmp_path / "a"), cache=tmp_path),
        SentenceEncoder(str(tmp_path / "b"), cache=tmp_path),
        SentenceEncoder(str(tmp_path / "a"), dtype="bfloat16", cache=tmp_path),
        SentenceEncoder(str(tmp_path / "same"), cache=tmp_path),
    ]
    stores = [encoder._store() for encoder in encoders]
    assert all(stores)
    stores[0].write({"text": np.ones(2, np.float32)})  # type: ignore[union-attr]
    assert [list(store.read(["text"])) for store in stores if store] == [["text"], [], [], ["text"]]


def test_identity_is_of_content(tmp_path: Path) -> None:
    """A copy has the same identity, a README changes nothing, a renamed or changed file does."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    before = identity(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("words")
    assert identity(tmp_path / "b") == before
    (tmp_path / "b" / "config.json").rename(tmp_path / "b" / "other.json")
    assert identity(tmp_path / "b") != before


def test_default_model_is_found_without_a_hub() -> None:
    """The package carries the default model; a folder is itself; an unknown name is nowhere, a bad one an error."""
    folder = local_folder(DEFAULT)
    assert folder is not None
    assert (folder / "modules.json").is_file()
    assert local_folder(str(folder)) == folder
    assert local_folder("nobody/nothing-of-that-name") is None
    with pytest.raises(UserError, match="neither a folder nor the name"):
        local_folder("./not/a/name/")


def test_default_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ICL_CACHE comes first, then XDG_CACHE_HOME, then ~/.cache; reports do not show it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ICL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == tmp_path / ".cache" / "icl-toolkit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "icl-toolkit"
    monkeypatch.setenv("ICL_CACHE", str(tmp_path / "ours"))
    assert SentenceEncoder().cache == tmp_path / "ours"
    assert str(tmp_path) not in repr(SentenceEncoder())


async def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """An empty folder is no model: the error says what to do."""
    with pytest.raises(UserError, match=r"cannot load the sentence encoder .*give a local folder"):
        await SentenceEncoder(str(tmp_path), cache=None)(["text"])


def test_bad_parameters() -> None:
    """Values that mean nothing are refused."""
    with pytest.raises(UserError, match=r"'float32', 'bfloat16'.*got 'int4'"):
        SentenceEncoder(dtype="int4")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least 1, got 0"):
        SentenceEncoder(tokens_per_batch=0)


@given(st.lists(st.integers(1, 60), max_size=50), st.integers(1, 120))
def test_batches_hold_the_budget(lengths: list[int], budget: int) -> None:
    """Each text is in one batch; texts · longest is within the budget unless the batch is one text."""
    cut = list(batches(lengths, budget))
    assert sorted(row for batch in cut for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget for batch in cut)
    assert [lengths[row] for batch in cut for row in batch] == sorted(lengths)


@given(st.dictionaries(st.text(st.characters()), st.floats(width=32, allow_nan=False), max_size=8))
def test_store_gives_back_what_it_got(tmp_path_factory: pytest.TempPathFactory, values: dict[str, float]) -> None:
    """Any text, any number: the vectors read are those written, and no others."""
    store = VectorStore(tmp_path_factory.mktemp("store") / "deep" / "vectors.sqlite", "model")
    store.write({text: np.full(3, value, np.float32) for text, value in values.items()})
    read = store.read([*values, "text that is not there, we hope"])
    assert {text: row.tolist() for text, row in read.items()} == {text: [value] * 3 for text, value in values.items()}


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """When the second of two vectors cannot be written, the first is not there either, and the user is told."""
    store = VectorStore(tmp_path / "vectors.sqlite", "model")
    store.write({"old": np.ones(2, np.float32)})
    with sqlite3.connect(store.path) as db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON vectors WHEN (SELECT COUNT(*) FROM vectors) = 2 "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    db.close()
    with pytest.warns(UserWarning, match="vectors are not kept: .*disk full"):
        store.write({"new": np.ones(2, np.float32), "newer": np.ones(2, np.float32)})
    assert list(VectorStore(store.path, "model").read(["old", "new", "newer"])) == ["old"]


def test_a_damaged_file_costs_time_only(tmp_path: Path) -> None:
    """A file that is no database is said once and then left alone."""
    path = tmp_path / "vectors.sqlite"
    path.write_bytes(b"not a database" * 100)
    store = VectorStore(path, "model")
    with pytest.warns(UserWarning, match=r"file is not a database; they will be computed again") as warned:
        assert store.read(["text"]) == {}
    store.write({"text": np.ones(2, np.float32)})
    assert len(warned) == 1
    assert path.read_bytes().startswith(b"not a database")


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    """Four processes that write 40 overlapping batches each lose nothing."""
    code = (
        "import sys; import numpy as np; from pathlib import Path; from icl.embedders.store import VectorStore\n"
        "store = VectorStore(Path(sys.argv[1]), 'model')\n"
        "for i in range(40):\n"
        "    store.write({str(i + j): np.full(4, i + j, np.float32) for j in range(5)})\n"
    )
    path = tmp_path / "vectors.sqlite"
    command = [sys.executable, "-W", "error", "-c", code, str(path)]
    running = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()}) for _ in range(4)]  # noqa: PTH109
    assert [process.wait() for process in running] == [0] * 4
    read = VectorStore(path, "model").read([str(i) for i in range(44)])
    assert {int(text): row.tolist() for text, row in read.items()} == {i: [i] * 4 for i in range(44)}


async def test_the_event_loop_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While texts are encoded, other coroutines run; two calls take turns at the model."""
    loop, begun, go, running = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), list[list[str]]()

    def encode(self: SentenceEncoder, texts: list[str]) -> Iterator[tuple[list[str], Array]]:  # noqa: ARG001
        running.append(texts)
        loop.call_soon_threadsafe(begun.set)
        assert go.wait(10)  # for a coroutine that only runs when the loop is free
        yield texts, np.ones((len(texts), 2), np.float32)

    monkeypatch.setattr(SentenceEncoder, "_encode", encode)
    shared = SentenceEncoder(cache=tmp_path)

    async def release() -> None:
        await begun.wait()
        assert len(running) == 1
        go.set()

    await asyncio.gather(shared(["a"]), shared(["a", "b"]), release())
    assert sorted(map(tuple, running)) in ([("a",), ("b",)], [(), ("a", "b")])
