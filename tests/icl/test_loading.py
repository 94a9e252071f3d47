import gzip
from pathlib import Path

import pytest

from icl import Example, load_examples
from templates.errors import DataError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_gsm8k_rows_are_cut_at_the_hashes(tmp_path: Path) -> None:
    """GSM8K keeps rationale and answer in one field; ids are file name, row, and a digest of what is asked."""
    path = write(tmp_path / "test.jsonl", '{"question": "1+1?", "answer": "It is <<1+1=2>>2.\\n#### 2"}\n\n')
    assert load_examples(path) == [Example("test/0-80911d", {"question": "1+1?"}, "2", "It is <<1+1=2>>2.")]


def test_csv_json_gz_and_rows_in_memory(tmp_path: Path) -> None:
    """Every form gives the same example; numbers become text as JSON writes them."""
    expected = [Example("a", {"text": "fine, thanks"}, "1")]
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b'{"id": "a", "text": "fine, thanks", "answer": 1}\n'))
    assert load_examples(tmp_path / "x.jsonl.gz") == expected
    assert load_examples(write(tmp_path / "x.csv", 'id,text,answer\na,"fine, thanks",1\n')) == expected
    assert load_examples(write(tmp_path / "x.json", '[{"id": "a", "text": "fine, thanks", "answer": 1}]')) == expected
    assert load_examples([{"id": "a", "text": "fine, thanks", "answer": "1"}]) == expected


def test_columns_can_be_named(tmp_path: Path) -> None:
    """The question comes first; other columns are left out."""
    path = write(tmp_path / "x.jsonl", '{"label": "pos", "text": "fun", "note": "x"}\n')
    (example,) = load_examples(path, fields=["text"], answer="label")
    assert (example.fields, example.answer) == ({"text": "fun"}, "pos")


def test_limit_stops_reading(tmp_path: Path) -> None:
    """A bad row after the limit does no harm."""
    path = write(tmp_path / "x.jsonl", '{"question": "a"}\n{"question": "b"}\nnot json\n')
    assert len(load_examples(path, limit=2)) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"question": "a"}\n{"question": \n', r"x\.jsonl, line 2: not JSON \(.* at column \d+\)"),
        (
            "x.jsonl",
            '{"question": ["a"]}\n',
            r"x\.jsonl, line 1, field 'question': expected text or a number, got \['a'\]",
        ),
        ("x.jsonl", "[1]\n", r"x\.jsonl, line 1: expected text or a number, got \[1\]"),
        ("x.jsonl", '{"question": " "}\n', r"x\.jsonl, line 1, field 'question': the question is empty"),
        ("x.jsonl", "\n", r"x\.jsonl has no rows"),
        ("x.jsonl", '{"id": 1, "q": "a"}\n{"id": 1, "q": "b"}\n', r"1 rows repeat the id of another"),
        ("x.json", '{"question": "a"}', r"holds a JSON dict; expected a list"),
        ("x.json", "[", r"x\.json, line 1: not JSON"),
        ("x.csv", "question,answer\na,b,c\n", r"x\.csv, line 2, field '\(too many columns\)': expected text"),
        ("x.txt", "a", r"x\.txt is not a \.jsonl, \.json or \.csv file"),
    ],
)
def test_a_bad_row_names_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    """File, line and field are in the message."""
    with pytest.raises(DataError, match=message):
        load_examples(write(tmp_path / name, text))


def test_missing_field_and_missing_file(tmp_path: Path) -> None:
    """The row's own fields are listed; a path that is not there is named."""
    path = write(tmp_path / "x.jsonl", '{"q": "a"}\n')
    with pytest.raises(DataError, match=r"x\.jsonl, line 1: no field 'question'; the row has \['q'\]"):
        load_examples(path, fields=["question"])
    with pytest.raises(DataError, match=r"no file .*none\.jsonl; check the path"):
        load_examples(tmp_path / "none.jsonl")
    (tmp_path / "x.jsonl").write_bytes(b'{"q": "\xff"}')
    with pytest.raises(DataError, match="cannot be read as UTF-8 text"):
        load_examples(path)
    (tmp_path / "x.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot be read"):
        load_examples(tmp_path / "x.jsonl.gz")


def test_rows_of_other_files_are_other_examples(tmp_path: Path) -> None:
    """Made-up ids say what is asked: only the same question in two files of one name has the same id."""
    first = load_examples([{"question": "a", "answer": "1"}, {"question": "b", "answer": "2"}])
    second = load_examples([{"question": "c", "answer": "1"}, {"question": "b", "answer": "2"}])
    assert [a.id == b.id for a, b in zip(first, second, strict=True)] == [False, True]
    assert load_examples(write(tmp_path / "x.jsonl", '{"q": "a"}\n'))[0].id != first[0].id


def test_a_limit_of_nothing_is_refused() -> None:
    """The value is named."""
    with pytest.raises(DataError, match="a limit is at least 1, got -1"):
        load_examples([{"question": "a"}], limit=-1)


def test_a_misspelt_question_in_one_row_is_found() -> None:
    """Every row has the question under the name that it has in the first row."""
    with pytest.raises(
        DataError, match=r"row 1: no field 'question', which the first row has; the row has \['qestion'\]"
    ):
        load_examples([{"question": "a"}, {"qestion": "b"}])


def test_an_example_knows_its_line(tmp_path: Path) -> None:
    """Counted as an editor counts; two examples that are alike elsewhere are equal."""
    path = write(tmp_path / "x.jsonl", '{"q": "a", "id": "1"}\n\n{"q": "b", "id": "2"}\n')
    found = load_examples(path)
    assert [example.place for example in found] == [f"{path}, line 1", f"{path}, line 3"]
    assert found == load_examples([{"q": "a", "id": "1"}, {"q": "b", "id": "2"}])
