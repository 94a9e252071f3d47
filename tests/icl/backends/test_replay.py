import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from icl.backends import Replay
from icl.backends.replay import asked_question
from icl.lm import Completion, Request
from templates.errors import DataError, UnscriptedPrompt, Unsupported, UserError
from templates.prompt import Turn, as_json

ASK = "Q: 9 * 2?\nA:"
CHAT = (Turn("system", "Be brief."), Turn("user", "9 * 2?"))


def saved(folder: Path, *rows: Any, name: str = "saved.jsonl") -> Path:
    """A file with these rows."""
    path = folder / name
    lines = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n"
    path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
    return path


def texts(completions: list[Completion]) -> list[str]:
    """What was said."""
    return [completion.text for completion in completions]


@pytest.mark.parametrize("name", ["saved.jsonl", "saved.jsonl.gz"])
async def test_by_prompt(tmp_path: Path, name: str) -> None:
    """A text and a chat are found by themselves, in a plain and in a packed file; no tokens are counted."""
    chat = {"completions": ["18"], "prompt": [dict(reversed(turn.items())) for turn in as_json(CHAT)], "model": "x"}
    lm = Replay(saved(tmp_path, {"prompt": ASK, "completions": ["is 18", "is 20"]}, "", chat, name=name))
    assert await lm.generate(Request(ASK, n=2, temperature=0.7)) == [Completion("is 18"), Completion("is 20")]
    assert texts(await lm.generate(Request(CHAT))) == ["18"]


async def test_samples_as_in_scripts(tmp_path: Path) -> None:
    """Windows go on where the last one ended, whatever the first seed; stop strings cut; a restart begins again."""
    lm = Replay(saved(tmp_path, {"prompt": ASK, "completions": ["a", "b", "c\n\nQ:"]}))
    assert texts(await lm.generate(Request(ASK, n=2, seed=77))) == ["a", "b"]
    assert texts(await lm.generate(Request(ASK, n=1, seed=79, stop=("\n\n",)))) == ["c"]
    assert texts(await lm.generate(Request(ASK, n=2, seed=77))) == ["a", "b"]
    lm.restart()
    assert texts(await lm.generate(Request(ASK, seed=0))) == ["a"]


async def test_a_row_for_each_sample(tmp_path: Path) -> None:
    """Rows of one question are read as one, in the order of the file."""
    rows = [{"question": "9 * 2?", "completions": [text]} for text in "abc"]
    lm = Replay(saved(tmp_path, *rows), by="question")
    assert texts(await lm.generate(Request(ASK, n=3))) == ["a", "b", "c"]


async def test_more_samples_than_saved(tmp_path: Path) -> None:
    """Asking for more than was saved says how many there are."""
    path = saved(tmp_path, {"prompt": ASK, "completions": ["a", "b"]})
    with pytest.raises(Unsupported, match=r"sample 3 was asked of a prompt with 2 completions in .*saved\.jsonl"):
        await Replay(path).generate(Request(ASK, n=3))


async def test_an_unknown_prompt(tmp_path: Path) -> None:
    """A prompt that is not there is refused, with the nearest that is."""
    lm = Replay(saved(tmp_path, {"prompt": "other", "completions": []}, {"prompt": ASK, "completions": ["a"]}))
    with pytest.raises(UnscriptedPrompt, match=r'no row for the prompt "Q: 9 \* 3.*the nearest one is "Q: 9 \* 2'):
        await lm.generate(Request("Q: 9 * 3?\nA:"))


async def test_the_name_follows_the_contents(tmp_path: Path) -> None:
    """Other completions are another model: a cache cannot mix them up. The folder does not matter."""
    (tmp_path / "b").mkdir()
    rows = [{"prompt": ASK, "completions": [text]} for text in "ab"]
    a, again, b = (
        Replay(saved(f, r)).name for f, r in ((tmp_path, rows[0]), (tmp_path / "b", rows[0]), (tmp_path, rows[1]))
    )
    assert a == again
    assert a != b
    assert a.startswith("replay/saved.jsonl@")


# The prompts of a few templates, with the questions that are saved; what is asked is worked out by eye.
TWO, THREE, TALE = "What is 1 + 1?", "What is 1 + 2?", "Ann has a cat.\n\nHow many cats has Ann?"
SAVED = [TWO, THREE, TALE, "How many cats has Ann?"]


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        (f"Q: {TWO}\nA:", TWO),
        (f"Solve it.\n\nQ: {TWO}\nA: 2\n\nQ: {THREE}\nA:", THREE),  # the first is a demonstration
        (f"Q: {TWO}\nA: 2\n\nQ: {TWO}\nA:", TWO),  # a leak, but no doubt
        (f"Q: {TWO}\nA: 2\n\nQ: {TALE}\nA:", TALE),  # reaches over the separator, and holds another question
        ("Q: How many cats has Ann?\nA:", "How many cats has Ann?"),
        ((Turn("user", TWO), Turn("assistant", "2"), Turn("user", THREE + " Think.")), THREE),
        ((Turn("user", THREE), Turn("assistant", "Let's see.\n\n")), THREE),  # an answer that has begun
    ],
)
def test_the_question_that_is_asked(prompt: Any, question: str) -> None:
    """The last question is found, whole, whatever demonstrations stand before it."""
    assert asked_question(prompt, SAVED, "\n\n") == question


@pytest.mark.parametrize(
    "prompt",
    [
        f"Q: {TWO}\nA: 2\n\nQ: What is 5 + 5?\nA:",  # the saved question is only a demonstration's
        (Turn("user", TWO), Turn("assistant", "2"), Turn("user", "What is 5 + 5?")),
        (Turn("system", TWO),),
        "",
    ],
)
def test_a_demonstration_is_not_the_question(prompt: Any) -> None:
    """Where the query itself was not saved, a demonstration's completions are not taken for it."""
    with pytest.raises(UnscriptedPrompt, match="none of the saved questions stands at the end"):
        asked_question(prompt, SAVED, "\n\n")


def test_two_questions_side_by_side() -> None:
    """With the wrong separator a demonstration cannot be told from the query: that is refused."""
    prompt = f"Q: {TWO}\nA: 2\n###\nQ: {THREE}\nA:"
    with pytest.raises(UnscriptedPrompt, match="2 saved questions stand side by side"):
        asked_question(prompt, SAVED, "\n\n")
    assert asked_question(prompt, SAVED, "\n###\n") == THREE


@pytest.mark.parametrize(
    ("rows", "by", "said"),
    [
        (['{"prompt": "a", "completions": ["b"]}', "", "{"], "prompt", r"saved\.jsonl, line 3: Invalid JSON"),
        ([{"prompt": "a"}], "prompt", r"line 1, field 'completions': Field required"),
        (
            [{"prompt": "a", "completions": "b"}],
            "prompt",
            r"line 1, field 'completions': Input should be a valid array",
        ),
        (
            [{"prompt": "a", "completions": [1]}],
            "prompt",
            r"line 1, field 'completions': Input should be a valid string",
        ),
        (
            [{"question": 5, "completions": ["b"]}],
            "question",
            r"line 1, field 'question': Input should be a valid string",
        ),
        ([{"prompt": "a", "completions": ["b"]}], "question", r"line 1: no field 'question', by which"),
        ([{"question": "a", "completions": ["b"]}], "prompt", r"line 1: no field 'prompt', by which"),
        (
            [{"question": "a", "completions": ["Think.", "So 4."], "answers": []}],  # a row of zero-shot-cot
            "question",
            r"line 1: 2 texts of one reasoning path, asked for in as many calls",
        ),
        (["[]"], "prompt", r"line 1: Input should be an object"),
        ([""], "prompt", r"saved\.jsonl has no rows"),
    ],
)
def test_bad_rows_name_their_place(tmp_path: Path, rows: list[Any], by: Any, said: str) -> None:
    """A bad row is refused by file, line and field."""
    with pytest.raises(DataError, match=said):
        Replay(saved(tmp_path, *rows), by=by)


def test_bad_files(tmp_path: Path) -> None:
    """A file that is not there, not packed although it says so, or not text, is refused by name."""
    with pytest.raises(DataError, match="no file nowhere"):
        Replay("nowhere.jsonl")
    for name in ("bad.jsonl", "bad.jsonl.gz"):
        (tmp_path / name).write_bytes(b"\xff\xfe\xff")
        with pytest.raises(DataError, match=rf"{name} cannot be read"):
            Replay(tmp_path / name)


def test_bad_options(tmp_path: Path) -> None:
    """Unknown ways of finding rows, and a separator that separates nothing, are refused."""
    path = saved(tmp_path, {"prompt": ASK, "completions": ["a"]})
    with pytest.raises(UserError, match='by "prompt" or by "question", not by \'id\''):
        Replay(path, by="id")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="separator"):
        Replay(path, separator="")
