from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from icl import Example
from icl.tiny import TINY
from templates import Template, Verbalizer
from templates.errors import DataError
from templates.soft import Base, SoftPrompt
from templates.soft.frozen import Frozen
from templates.soft.rows import Row, as_batch, beginning, epoch, rows_of

TEMPLATE = Template("Q: {question}\nA: {answer}")
SOFT = SoftPrompt(np.zeros((5, 2)), Base("m", layers=1, hidden=2))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(TINY)


def example(answer: str | None = "7", question: str = "What is 3 + 4?") -> Example:
    return Example("a.jsonl:3", {"question": question}, answer)


def test_a_row_is_prompt_answer_and_end(tokenizer: Any) -> None:
    """Begin of text, the prompt, " 7", end of text; the last two are the answer."""
    [row] = rows_of(Frozen(None, tokenizer), TEMPLATE, [example()], room=1024)
    assert tokenizer.decode(row.tokens) == "<s>Q: What is 3 + 4?\nA: 7</s>"
    assert tokenizer.decode(row.tokens[-row.answer :]) == " 7</s>"
    assert set(row.soft) == {-1}


def test_a_label_ends_with_its_word(tokenizer: Any) -> None:
    """Labels are compared, not written to an end; each is shown by its word."""
    template = replace(TEMPLATE, verbalizer=Verbalizer({"pos": ["dax"], "neg": ["wug"]}))
    [row] = rows_of(Frozen(None, tokenizer), template, [example("neg")], room=1024)
    assert tokenizer.decode(row.tokens[-row.answer :]) == " wug"


def test_soft_tokens_are_numbered_where_they_stand(tokenizer: Any) -> None:
    """In front of the begin of text; or two before the question and three after it."""
    [front] = rows_of(Frozen(None, tokenizer), replace(TEMPLATE, soft=SOFT), [example()], room=1024)
    assert front.soft[:6] == (0, 1, 2, 3, 4, -1)
    assert tokenizer.decode(front.tokens[5:]) == "<s>Q: What is 3 + 4?\nA: 7</s>"
    slotted = Template("{soft:2}Q: {question}{soft:3}\nA: {answer}", soft=SOFT)
    [row] = rows_of(Frozen(None, tokenizer), slotted, [example()], room=1024)
    assert [number for number in row.soft if number >= 0] == [0, 1, 2, 3, 4]
    assert row.soft[:3] == (0, 1, -1)


def test_bad_examples_are_named(tokenizer: Any) -> None:
    """No answer, an unknown label, no room; with file and line, where the example is from one."""
    for nothing in (None, " "):
        with pytest.raises(DataError, match=r"'a.jsonl:3' has no answer"):
            rows_of(Frozen(None, tokenizer), TEMPLATE, [example(nothing)], room=1024)
    with pytest.raises(DataError, match=r"'a.jsonl:3' \(a.jsonl, line 4\) has no answer"):
        rows_of(Frozen(None, tokenizer), TEMPLATE, [replace(example(None), place="a.jsonl, line 4")], room=1024)
    labelled = replace(TEMPLATE, verbalizer=Verbalizer({"pos": ["dax"], "neg": ["wug"]}))
    with pytest.raises(
        DataError, match=r"'a.jsonl:3' has the label 'neutral', and the verbalizer has \['pos', 'neg'\]"
    ):
        rows_of(Frozen(None, tokenizer), labelled, [example("neutral")], room=1024)
    with pytest.raises(
        DataError, match=r"'a.jsonl:3' has \d+ tokens of prompt and 2 of answer, and there is room for 9"
    ):
        rows_of(Frozen(None, tokenizer), TEMPLATE, [example()], room=9)


def test_a_batch_knows_where_answers_are_predicted() -> None:
    """Worked by hand: two rows, answers of two tokens and one; each is predicted by the token before it."""
    batch = as_batch([Row((5, 6, 7, 8), (-1, 0, -1, -1), 2), Row((5, 9), (-1, -1), 1)])
    assert batch.ids.tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch.soft is not None
    assert batch.soft.tolist() == [[-1, 0, -1], [-1, -1, -1]]
    assert batch.places.tolist() == [1, 2, 3]
    assert batch.targets.tolist() == [7, 8, 9]
    assert batch.answers == [2, 1]
    assert as_batch([Row((5, 9), (-1, -1), 1)]).soft is None


def test_a_batch_whose_rows_share_their_beginning_by_hand() -> None:
    """Soft token and word 5 stand before both rows; what is predicted is counted through the rest alone."""
    rows = [Row((0, 5, 6, 7, 8), (0, -1, -1, -1, -1), 2), Row((0, 5, 9, 4), (0, -1, -1, -1), 1)]
    batch = as_batch(rows, shared=2)
    assert batch.lead is not None
    assert batch.lead.soft is not None
    assert (batch.lead.ids.tolist(), batch.lead.soft.tolist()) == ([[0, 5]], [[0, -1]])
    assert (batch.ids.tolist(), batch.soft) == ([[6, 7], [9, 0]], None)
    assert (batch.places.tolist(), batch.targets.tolist(), batch.answers) == ([0, 1, 2], [7, 8, 4], [2, 1])
    assert not batch.prefixed


def test_no_answer_is_predicted_in_a_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that differ in their answers alone share all tokens but the last before these."""
    monkeypatch.setattr("templates.soft.rows._AHEAD", 0)
    assert beginning([Row((1, 2, 3, 8, 4), (-1,) * 5, 2), Row((1, 2, 3, 9), (-1,) * 4, 1)]) == 2
    assert beginning([Row((1, 2, 3, 8), (0, -1, -1, -1), 1), Row((1, 2, 3, 8), (1, -1, -1, -1), 1)]) == 0
    assert beginning([Row((1, 2, 3, 8), (-1,) * 4, 1)]) == 0, "one row shares nothing"


def test_an_epoch_has_every_row_once_in_batches_of_like_length() -> None:
    """A hundred rows of a hundred lengths, ten at a time: a batch spans ten lengths; seeds decide the order alone."""
    rows = [Row((7,) * length, (-1,) * length, 1) for length in range(2, 102)]
    batches = epoch(rows, 10, "0/0")
    assert sorted(len(row.tokens) for batch in batches for row in batch) == list(range(2, 102))
    assert {len({len(row.tokens) // 10 for row in batch}) for batch in batches} <= {1, 2}
    assert max(len(batch[-1].tokens) - len(batch[0].tokens) for batch in batches) == 9
    assert epoch(rows, 10, "0/0") == batches
    assert epoch(rows, 10, "0/1") != batches
