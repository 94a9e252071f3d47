from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from icl import Example
from templates import Template
from templates.soft.batches import word_logprobs
from templates.soft.families import frozen_of
from templates.soft.frozen import Frozen
from tests.shapes import make_pair

ASKED = Template("Q: {text} A: {answer}")
WORDS = [["red", "green"], ["red", "green", "a long answer"], ["an answer", "red"], ["answer in words"]]


def rows(frozen: Frozen, number: int, words: list[str]) -> list[Any]:
    example = Example(str(number), {"text": "which " * (number + 1)})
    return [frozen.row(ASKED, example, word, 256, end=False) for word in words]


@pytest.fixture(params=["causal", "pair"])
def frozen(request: pytest.FixtureRequest, model: Any, tokenizer: Any, tiny_model: Path, tmp_path: Path) -> Frozen:
    if request.param == "causal":
        return frozen_of(model, tokenizer)
    folder = make_pair("t5", tiny_model, tmp_path / "pair")
    return frozen_of(AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))


def test_words_are_worth_what_each_is_by_itself(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of one token are read in one run of their question; others, and single ones of several, in their own."""
    worded = [rows(frozen, number, words) for number, words in enumerate(WORDS)]
    ran, hidden = list[int](), Frozen.hidden

    def counted(its: Frozen, batch: Any, prompt: Any) -> Any:
        ran.append(len(batch.ids))
        return hidden(its, batch, prompt)

    with frozen.held(), torch.no_grad():
        alone = [[frozen.logprobs(frozen.batch([row]), None)[0][0].tolist() for row in its] for its in worded]
        monkeypatch.setattr(Frozen, "hidden", counted)
        found = word_logprobs(frozen, worded, None, 8)
    assert [[pytest.approx(word, abs=1e-5) for word in its] for its in alone] == found
    assert sum(ran) == sum(1 if all(row.answer == 1 for row in its) else len(its) for its in worded)
