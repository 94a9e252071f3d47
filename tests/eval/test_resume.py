import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.eval.command import icl, questions, report, rows, started
from tests.fake_server import Fake, sampled

QUESTIONS, SAMPLES = 200, 5


def command(data: Path, url: str, out: Path, *more: object) -> list[object]:
    """Self-consistency on a server that takes a moment for each call, sixteen calls at once."""
    return [
        *("eval", "gsm8k", "--data", data, "--backend", "openai", "--base-url", url, "--model", "fake"),
        *("--samples", SAMPLES, "--out", out, "--backend-arg", "concurrency=16", *more),
    ]


def stored(out: Path) -> int:
    """Samples in the run folder's store."""
    if not (out / "samples.sqlite").is_file():
        return 0
    connection = sqlite3.connect(out / "samples.sqlite")
    count = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'entries'").fetchone()[0]
    found = connection.execute("SELECT count(*) FROM entries").fetchone()[0] if count else 0
    connection.close()
    return int(found)


def test_killed_three_times_and_nothing_is_lost(tmp_path: Path) -> None:
    """`kill -9` at three random moments, then the same command: rows and report are those of a run never killed.

    And no stored sample is asked for again: each session asks at most for what was missing when it began.
    """
    data = questions(tmp_path / "test.jsonl", QUESTIONS)
    moments = random.Random(3)
    with Fake(sampled(delay=0.15)).listening() as server:
        whole = command(data, server.url, tmp_path / "run")
        for _ in range(3):
            had, asked = stored(tmp_path / "run"), len(server.samples)
            process = started(*whole)
            deadline = time.monotonic() + 60
            more = moments.randrange(50, 250)
            while stored(tmp_path / "run") < had + more and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            time.sleep(0.5)  # what the dead process had sent is read
            assert process.returncode == -signal.SIGKILL
            assert len(server.samples) - asked <= QUESTIONS * SAMPLES - had
        had, asked = stored(tmp_path / "run"), len(server.samples)
        assert 150 <= had < QUESTIONS * SAMPLES
        done = icl(*whole)
        assert done.returncode == 0, done.stderr
        assert len(server.samples) - asked == QUESTIONS * SAMPLES - had
        server.answer = sampled()
        assert icl(*command(data, server.url, tmp_path / "never")).returncode == 0
    for name in ("rows.jsonl", "report.json", "config.json", "curve.svg", "curve.png"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "never" / name).read_bytes(), name


def test_a_finished_run_asks_nothing(tmp_path: Path) -> None:
    """The same command again makes no call and writes the same report; more samples ask only for those."""
    data = questions(tmp_path / "test.jsonl", 10)
    with Fake(sampled()).listening() as server:
        words = command(data, server.url, tmp_path / "run")
        assert icl(*words).returncode == 0
        first = (tmp_path / "run" / "report.json").read_bytes()
        assert len(server.samples) == 10 * SAMPLES
        assert icl(*words).returncode == 0
        assert (tmp_path / "run" / "report.json").read_bytes() == first
        assert len(server.samples) == 10 * SAMPLES
        assert icl(*words, "--samples", 8).returncode == 0
        assert len(server.samples) == 10 * 8
        assert len(set(server.samples)) == 10 * 8


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    """SIGINT: one sentence, exit code 1, rows of what was done, a report that says it is not complete."""
    data = questions(tmp_path / "test.jsonl", QUESTIONS)
    with Fake(sampled(delay=0.15)).listening() as server:
        process = started(*command(data, server.url, tmp_path / "run"))
        while stored(tmp_path / "run") < 100 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: interrupted; what is done is kept, and the same command continues it" in errors
    assert "Traceback" not in errors
    assert not report(tmp_path / "run")["complete"]
    assert 0 < len(rows(tmp_path / "run")) < QUESTIONS


def test_a_second_process_on_the_folder_is_refused(tmp_path: Path) -> None:
    """While one process runs, another is told who holds the folder; the first one is not disturbed."""
    data = questions(tmp_path / "test.jsonl", 60)
    with Fake(sampled(delay=0.3)).listening() as server:
        words = command(data, server.url, tmp_path / "run")
        first = started(*words)
        while not stored(tmp_path / "run") and first.poll() is None:
            time.sleep(0.02)
        second = icl(*words)
        _, errors = first.communicate(timeout=120)
    assert second.returncode == 2
    assert f"is in use by process {first.pid}; wait for it, or choose another folder" in second.stderr
    assert first.returncode == 0, errors
    assert len(server.samples) == len(set(server.samples)) == 60 * SAMPLES


@pytest.mark.parametrize("more", [("--seed", 1), ("-k", 4), ("--temperature", 0.5)])
def test_another_run_in_the_folder_is_refused(tmp_path: Path, more: tuple[object, ...]) -> None:
    """A changed setting does not overwrite a run: what differs is named."""
    data = questions(tmp_path / "test.jsonl", 3)
    with Fake(sampled()).listening() as server:
        words = command(data, server.url, tmp_path / "run")
        assert icl(*words).returncode == 0
        refused = icl(*words, *more)
    assert refused.returncode == 2
    assert "holds another run (" in refused.stderr
    assert f"{more[1]!r} now" in refused.stderr


def test_changed_data_is_another_run(tmp_path: Path) -> None:
    """The digest of the questions' file is part of the run."""
    data = questions(tmp_path / "test.jsonl", 3)
    with Fake(sampled()).listening() as server:
        words = command(data, server.url, tmp_path / "run")
        assert icl(*words).returncode == 0
        questions(data, 4)
        refused = icl(*words)
    assert refused.returncode == 2
    assert "digests.data" in refused.stderr
