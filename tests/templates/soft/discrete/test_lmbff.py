from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from icl import Example
from templates import Template
from templates.errors import NotEnoughDemos, UserError
from templates.soft.discrete.lmbff import assignments, demonstrations, ranked, top_words
from templates.soft.families import frozen_of
from tests.masked import examples

# Log-probabilities of four tokens for three examples, with labels 0, 0 and 1.
SAID = np.array([[-1.0, -2.0, -3.0, -0.5], [-1.0, -4.0, -2.0, -0.5], [-3.0, -1.0, -2.0, -0.5]])


def test_top_words_by_hand() -> None:
    """Sums of label 0: -2, -6, -5, -1; of label 1: -3, -1, -2, -0.5; the last token is no word."""
    words = np.array([True, True, True, False])
    assert top_words(SAID, [0, 0, 1], 2, 2, words) == [[0, 2], [1, 2]]
    assert top_words(SAID, [0, 0, 1], 2, 1, np.ones(4, dtype=bool)) == [[3], [3]]


def test_ranking_by_hand() -> None:
    """(0, 1) and (0, 2) get all three right, sure of (-1, -1, -1) and (-1, -1, -2); (2, 1) gets two right.

    There the first example says 1 (-2) rather than 2 (-3). The word 2 cannot stand for both labels.
    """
    found = ranked(SAID, [0, 0, 1], [[0, 2], [1, 2]], 10)
    assert [tokens for tokens, _, _ in found] == [(0, 1), (0, 2), (2, 1)]
    assert [right for _, right, _ in found] == pytest.approx([1, 1, 2 / 3])
    assert [sure for _, _, sure in found] == pytest.approx([-1, -4 / 3, -2])
    assert ranked(SAID, [0, 0, 1], [[0, 2], [1, 2]], 1) == found[:1]
    with pytest.raises(UserError, match="no words are left that tell 2 labels apart"):
        ranked(SAID, [0, 0, 1], [[1], [1]], 1)
    with pytest.raises(UserError, match="1953125 assignments of words to 9 labels are too many"):
        ranked(SAID, [0, 0, 1], [range(5)] * 9, 1)


def test_many_assignments_are_compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time, the same ranking."""
    candidates = [[0, 2, 3], [1, 2, 0]]
    whole = ranked(SAID, [0, 0, 1], candidates, 10)
    monkeypatch.setattr("templates.soft.discrete.lmbff._PIECE", 2)
    assert ranked(SAID, [0, 0, 1], candidates, 10) == whole


@pytest.mark.parametrize(("cue", "labels"), [("topic", ["one", "two"]), ("review", ["good", "bad"])])
def test_the_planted_words_are_found(taught: Path, cue: str, labels: list[str]) -> None:
    """Of all words those that the model was taught to say are best, and get every example right."""
    frozen = frozen_of(AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught))
    best, *others = assignments(frozen, Template(f"{cue} {{text}} : {{answer}}"), examples(cue), labels, k=5, n=4)
    assert best.verbalizer.words == {label: (label,) for label in labels}
    assert best.accuracy == 1.0
    assert best.likelihood > -0.1
    assert len(others) == 3
    assert all((best.accuracy, best.likelihood) > (one.accuracy, one.likelihood) for one in others)


def test_a_causal_model_has_words_too(tiny_model: Path) -> None:
    """A random Llama: words that differ, ranked by accuracy; labels without examples are refused."""
    frozen = frozen_of(AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model))
    some = [Example(str(n), {"q": f"{n} apples"}, "odd" if n % 2 else "even") for n in range(12)]
    found = assignments(frozen, Template("{q} is {answer}"), some, ["odd", "even"], k=6, n=3)
    assert [one.accuracy for one in found] == sorted((one.accuracy for one in found), reverse=True)
    assert found[0].accuracy > 0.5
    with pytest.raises(UserError, match=r"no example of \['none'\]"):
        assignments(frozen, Template("{q} is {answer}"), some, ["odd", "even", "none"])


def test_demonstrations_by_hand() -> None:
    """Label 0 has similarities .9 .1 .8 .2: of its upper half .9 and .8 one is drawn; of label 1's three the upper two.

    A question that is itself in the pool is never shown.
    """
    similarity = np.array([0.9, 0.5, 0.1, 0.8, 0.4, 0.3, 0.2, -np.inf])
    labels = [0, 1, 0, 0, 1, 1, 0, 0]
    drawn = [demonstrations(similarity, labels, 2, Random(f"0/{number}")) for number in range(200)]
    counts = Counter(number for its in drawn for number in its)
    assert set(counts) == {0, 3, 1, 4}
    assert all(70 < count < 130 for count in counts.values())
    assert demonstrations(similarity, labels, 2, Random("0/7")) == drawn[7]
    assert demonstrations(similarity, labels, 2, Random("x"), share=0.01) == [0, 1]
    with pytest.raises(NotEnoughDemos, match="label number 2 has no example"):
        demonstrations(similarity, labels, 3, Random("0"))
    with pytest.raises(UserError, match=r"in \(0, 1\], got 0"):
        demonstrations(similarity, labels, 2, Random("0"), share=0)
