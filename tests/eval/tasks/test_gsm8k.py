from pathlib import Path

import pytest

from eval.tasks.gsm8k import GSM8K

DATA = Path(__file__).parents[3] / ".." / "shared" / "data" / "gsm8k"


def test_calculator_notes_are_no_words(tmp_path: Path) -> None:
    """GSM8K's "<<48/2=24>>" are notes for a calculator: demonstrations show the sentence around them."""
    path = tmp_path / "train.jsonl"
    path.write_text('{"question": "Half of 48?", "answer": "Half is 48/2 = <<48/2=24>>24 clips.\\n#### 24"}\n')
    (example,) = GSM8K.load_pool(path, None)
    assert (example.rationale, example.answer) == ("Half is 48/2 = 24 clips.", "24")


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data")
def test_the_data_is_what_is_published() -> None:
    """7,473 and 1,319 rows; of the test answers 14 have commas, 2 are negative, none has decimals."""
    test = GSM8K.load(DATA / "test.jsonl", None)
    answers = [example.answer or "" for example in test]
    assert (len(GSM8K.load_pool(DATA / "train.jsonl", None)), len(test)) == (7473, 1319)
    assert sum("," in answer for answer in answers) == 14
    assert sum(answer.startswith("-") for answer in answers) == 2
    assert not any("." in answer for answer in answers)
