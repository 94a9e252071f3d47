import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.eval.command import icl, questions, report, rows
from tests.fake_server import Fake, completion, sampled


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six questions."""
    return questions(tmp_path / "test.jsonl", 6)


def words(data: Path, url: str, out: Path, *more: object) -> list[object]:
    """The shortest evaluation."""
    return [
        "eval",
        "gsm8k",
        "--data",
        data,
        "--backend",
        "openai",
        "--base-url",
        url,
        "--model",
        "fake",
        "--out",
        out,
        *more,
    ]


def test_every_outcome_is_counted_apart(tmp_path: Path, data: Path) -> None:
    """Right, wrong and unread; the Wilson interval of 3 in 6; the share of votes; the tokens; the vote curve's ends."""
    said = {1: "is 2", 2: "is 4", 3: "is 6", 4: "is 7", 5: "dunno", 6: "dunno"}
    answer = sampled(lambda prompt, _: said[int(prompt.rsplit("What is ", 1)[1].split(maxsplit=1)[0])])
    with Fake(answer).listening() as server:
        done = icl(*words(data, server.url, tmp_path / "run", "--samples", 3, "--json"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == report(tmp_path / "run")
    assert found["outcomes"] == {"right": 3, "wrong": 1, "unread": 2, "failed": 0}
    assert found["accuracy"]["value"] == 0.5
    assert (round(found["accuracy"]["low"], 3), round(found["accuracy"]["high"], 3)) == (0.188, 0.812)
    assert [point["accuracy"] for point in found["curve"]] == [0.5, 0.5, 0.5]
    assert (found["calls"], found["prompt_tokens"], found["completion_tokens"]) == (6, 6 * 7, 6 * 15)
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"curve.png", "curve.svg", "environment.json"}
    assert rows(tmp_path / "run")[3]["answers"] == ["7", "7", "7"]


def test_the_table_ends_in_the_line_that_reproduces_it(tmp_path: Path, data: Path) -> None:
    """A person sees accuracy and interval, the signature, and the command."""
    with Fake(sampled()).listening() as server:
        done = icl(*words(data, server.url, tmp_path / "run", "--strategy", "few-shot-cot"), COLUMNS="200")
    assert done.returncode == 0, done.stderr
    assert "95 % interval" in done.stdout
    assert "task:gsm8k|questions:6|model:fake|backend:openai|template:math.cot.v1|strategy:few-shot-cot" in done.stdout
    assert "\nicl eval gsm8k --data" in done.stdout
    assert "6/6 questions" in done.stderr


def test_failed_questions_are_not_wrong_ones(tmp_path: Path, data: Path) -> None:
    """A server that only answers garbage: all failed, none wrong, one sentence, exit code 1, rows that say why."""
    with Fake(lambda *_: httpx.Response(200, text="<html>busy")).listening() as server:
        done = icl(
            *words(data, server.url, tmp_path / "run", "-k", 0, "--backend-arg", "vllm=false", "--strategy", "direct")
        )
    assert done.returncode == 1
    assert "6 of 6 questions failed, first:" in done.stderr
    assert "Traceback" not in done.stderr
    assert report(tmp_path / "run")["outcomes"] == {"right": 0, "wrong": 0, "unread": 0, "failed": 6}
    assert report(tmp_path / "run")["accuracy"] is None


def test_texts_that_were_cut_are_counted(tmp_path: Path, data: Path) -> None:
    """Two of three paths of each question end at max_tokens: the report counts twelve, the table says what to do."""

    def answer(_: str, body: Any) -> Any:
        reply = completion(*["The answer is 2."] * body["n"])
        for choice in reply["choices"][1:]:
            choice["finish_reason"] = "length"
        return reply

    with Fake(answer).listening() as server:
        done = icl(*words(data, server.url, tmp_path / "run", "--samples", 3), COLUMNS="200")
    assert report(tmp_path / "run")["cut"] == 12
    assert "12 texts; raise --max-tokens" in done.stdout


def test_a_server_that_is_down_is_said(tmp_path: Path, data: Path) -> None:
    """The address and the question "is the server running?", exit code 1, no traceback, and a folder that continues."""
    with Fake(sampled()).listening() as server:
        url = server.url
    done = icl(*words(data, url, tmp_path / "run"))
    assert done.returncode == 1
    assert "is the server running?" in done.stderr
    assert "Traceback" not in done.stderr
    assert report(tmp_path / "run")["outcomes"]["failed"] == 6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--strategy", "self-consistensy"), "no strategy 'self-consistensy'; the nearest: self-consistency"),
        (("--selector", "bm52", "--pool", "test.jsonl"), "no selector 'bm52'; the nearest: bm25"),
        (("--orderer", "similar"), "no orderer 'similar'; the nearest: similarity"),
        (("--backend", "vlm"), "no backend 'vlm'; the nearest: vllm"),
        (("--template", "math.cto.v1"), "no prompt text 'math.cto.v1' in the library; the nearest: math.cot.v1"),
        (
            ("--strategy", "direct", "--samples", 3),
            "--samples is for self-consistency and adaptive-self-consistency; direct asks once",
        ),
        (
            ("--strategy", "zero-shot-cot", "--selector", "bm25"),
            "zero-shot-cot shows no demonstrations; leave out --selector, --pool and --demos",
        ),
        (("--temperature", 0), "self-consistency needs temperature > 0"),
        (("--backend-arg", "nonsense"), "--backend-arg takes KEY=VALUE, got 'nonsense'"),
        (("--backend-arg", "name=x"), "--backend-arg name=x: the backend's name goes to --backend"),
        (("--backend-arg", "tempo=3"), "backend 'openai': no tempo there"),
        (("--pool", "none.jsonl"), "no file none.jsonl; check the path"),
        (("--pool", "a.jsonl", "--demos", "b.jsonl"), "give a pool (a.jsonl) or demonstrations (b.jsonl), not both"),
    ],
)
def test_a_user_s_mistake_is_one_sentence(tmp_path: Path, data: Path, more: tuple[object, ...], said: str) -> None:
    """Exit code 2, the nearest name, no traceback."""
    done = icl(*words(data, "http://127.0.0.1:9/v1", tmp_path / "run", *more))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_finished_run_needs_no_server(tmp_path: Path, data: Path) -> None:
    """All samples are stored: the same command gives the same report when the server is gone."""
    with Fake(sampled()).listening() as server:
        url = server.url
        assert icl(*words(data, url, tmp_path / "run", "--samples", 3)).returncode == 0
    before = (tmp_path / "run" / "report.json").read_bytes()
    again = icl(*words(data, url, tmp_path / "run", "--samples", 3))
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run" / "report.json").read_bytes() == before


def test_a_refused_setting_leaves_no_run_behind(tmp_path: Path, data: Path) -> None:
    """The corrected command runs in the same folder."""
    with Fake(sampled()).listening() as server:
        assert icl(*words(data, server.url, tmp_path / "run", "--temperature", 0)).returncode == 2
        assert icl(*words(data, server.url, tmp_path / "run", "--samples", 2)).returncode == 0


def test_a_run_that_answered_nothing_holds_no_folder(tmp_path: Path, data: Path) -> None:
    """All questions failed and no sample is stored: the corrected command runs in the same folder."""
    with Fake(lambda *_: httpx.Response(400, text="<html>no")).listening() as server:
        failed = icl(*words(data, server.url, tmp_path / "run", "--samples", 2, "--backend-arg", "vllm=false"))
    assert report(tmp_path / "run")["outcomes"]["failed"] == 6, failed.stderr
    with Fake(sampled()).listening() as server:
        done = icl(*words(data, server.url, tmp_path / "run", "--strategy", "few-shot-cot"))
    assert done.returncode == 0, done.stderr


def test_a_wrong_name_is_said_before_a_wrong_folder(tmp_path: Path, data: Path) -> None:
    """On a folder that holds a run, a slip is still told as a slip."""
    with Fake(sampled()).listening() as server:
        assert icl(*words(data, server.url, tmp_path / "run", "--samples", 2)).returncode == 0
        slip = icl(*words(data, server.url, tmp_path / "run", "--template", "math.cott.v1"))
    assert slip.returncode == 2
    assert "no prompt text 'math.cott.v1'" in slip.stderr


def test_without_a_hub_the_option_that_is_missing_is_named(tmp_path: Path, data: Path) -> None:
    """A selector without a pool asks for --pool; a task without a file asks for --data."""
    pool = icl(*words(data, "http://127.0.0.1:9/v1", tmp_path / "run", "--selector", "bm25"), HF_HUB_OFFLINE="1")
    assert (pool.returncode, "or give a file with --pool" in pool.stderr) == (2, True), pool.stderr
    line = [word for word in words(data, "http://127.0.0.1:9/v1", tmp_path / "run") if word not in ("--data", data)]
    asked = icl(*line, HF_HUB_OFFLINE="1")
    assert (asked.returncode, "or give a file with --data" in asked.stderr) == (2, True), asked.stderr


def test_questions_without_answers_cannot_be_scored(tmp_path: Path, data: Path) -> None:
    """They are refused by name, not counted as wrong."""
    data.write_text('{"id": "a", "question": "What is 1 + 1?"}\n')
    done = icl(*words(data, "http://127.0.0.1:9/v1", tmp_path / "run"))
    assert done.returncode == 2
    assert "1 questions have no answer to compare with, first 'a'; `icl run` answers" in done.stderr


def test_an_edited_template_is_another_run(tmp_path: Path, data: Path) -> None:
    """A template file is an input file like any other."""
    own = tmp_path / "own.yaml"
    own.write_text('source: mine\ntext: "Q: {question}\\nA: {answer}"\nreader: number\n')
    with Fake(sampled()).listening() as server:
        line = words(data, server.url, tmp_path / "run", "--template", own, "-k", 0, "--strategy", "direct")
        assert icl(*line).returncode == 0
        own.write_text('source: mine\ntext: "Q: {question}\\nA: {answer}"\nreader: boxed\n')
        refused = icl(*line)
    assert "digests.template" in refused.stderr


def test_unknown_task(tmp_path: Path) -> None:
    """The nearest task is named."""
    done = icl("eval", "gsm8", "--model", "m", "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (
        2,
        "error: no task 'gsm8'; the nearest: gsm8k, sums (all: icl list tasks)\n",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "test.jsonl has no rows"),
        ('{"question": "a", "answer": "1"}\n{"question": \n', "test.jsonl, line 2: not JSON"),
        ('{"answer": "1"}\n', "test.jsonl, line 1: no field to ask about; the row has ['answer']"),
    ],
)
def test_bad_data_names_file_and_line(tmp_path: Path, data: Path, content: str, said: str) -> None:
    """Exit code 2 before any call."""
    data.write_text(content)
    done = icl(*words(data, "http://127.0.0.1:9/v1", tmp_path / "run"))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_run_answers_questions_from_yaml(tmp_path: Path, data: Path) -> None:
    """`icl run`: a pipeline in YAML, questions without answers in, one row each out; again it asks nothing."""
    (tmp_path / "in.jsonl").write_text('{"id": "one", "question": "What is 4 + 4?"}\n')
    with Fake(sampled(lambda *_: "is 8")).listening() as server:
        (tmp_path / "pipeline.yaml").write_text(
            f"model: fake\nbackend: {{name: openai, base_url: '{server.url}'}}\ntemplate: math.cot.v1\n"
            f"strategy: {{name: self-consistency, n: 3}}\nselector: bm25\nk: 2\npool: {data}\n"
        )
        line = ("run", tmp_path / "pipeline.yaml", "--input", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")
        assert icl(*line).returncode == 0
        assert icl(*line).returncode == 0
    (row,) = [json.loads(row) for row in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (row["id"], row["answer"], row["share"], row["outcome"]) == ("one", "8", 1.0, None)
    assert len(row["demos"]) == 2
    assert len(server.samples) == 3


def test_a_wrong_field_in_yaml_is_named(tmp_path: Path) -> None:
    """File, field, and the fields that there are."""
    (tmp_path / "p.yaml").write_text("model: m\ntemplate: math.cot.v1\nselectr: knn\n")
    done = icl("run", tmp_path / "p.yaml", "--input", "x.jsonl", "--out", "y.jsonl")
    assert done.returncode == 2
    assert "p.yaml, field 'selectr': Extra inputs are not permitted" in done.stderr
    assert "the fields are model, backend, template, strategy, selector" in done.stderr


def test_list_names_everything(tmp_path: Path) -> None:  # noqa: ARG001
    """All kinds, a line for each name; one kind alone; as JSON; an unknown kind offers the nearest."""
    listed = icl("list").stdout
    for name in ("knn", "similarity", "self-consistency", "gsm8k", "vllm", "math.cot.v1"):
        assert f"  {name} " in listed
    assert set(json.loads(icl("list", "orderers", "--json").stdout)["orderers"]) == {
        "similarity",
        "shuffled",
        "as-given",
        "reversed",
    }
    assert "no kind 'selector'; the nearest: selectors" in icl("list", "selector").stderr


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path: Path, data: Path) -> None:
    """A file size limit stands in for a full disk: one sentence, exit code 1, and the run can go on."""
    import resource
    import subprocess

    from tests.eval.command import line

    with Fake(sampled(lambda *_: "is 2 " + "x" * 20_000)).listening() as server:
        whole = words(data, server.url, tmp_path / "run", "--samples", 4)
        limited = subprocess.run(
            line(tuple(whole)),
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
        )
        assert limited.returncode == 1, limited.stderr
        assert "Traceback" not in limited.stderr
        assert "safe" in limited.stderr
        assert icl(*whole).returncode == 0
    assert report(tmp_path / "run")["complete"]


def test_a_question_longer_than_the_context_fails_alone(tmp_path: Path, tiny_model: Path) -> None:
    """Too long even without demonstrations: that question is a failed row that says why; the others are answered."""
    asked = [{"question": "What is 1 + 1?", "answer": "2"}, {"question": "word " * 3000, "answer": "2"}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    engine = ("--backend", "transformers", "--backend-arg", "dtype=float32", "--model", tiny_model)
    how = ("--strategy", "direct", "--max-tokens", 4, "-k", 2, "--out", tmp_path / "run")
    done = icl("eval", "gsm8k", "--data", tmp_path / "test.jsonl", *engine, *how)
    assert done.returncode == 1
    assert "1 of 2 questions failed, first: the prompt has" in done.stderr
    assert "Traceback" not in done.stderr
    fits, too_long = rows(tmp_path / "run")
    assert fits["outcome"] != "failed"
    assert (too_long["outcome"], too_long["demos"], too_long["dropped"]) == ("failed", [], 2)


def test_the_version_is_said() -> None:
    """`icl --version` names the distribution."""
    assert icl("--version").stdout.startswith("icl-toolkit 0.")
