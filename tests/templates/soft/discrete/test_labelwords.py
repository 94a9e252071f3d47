from math import e, log
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForMaskedLM, AutoTokenizer

from templates import Template, Verbalizer
from templates.errors import UserError
from templates.soft.discrete.labelwords import distinct, label_words, lead_of, word_scores
from templates.soft.discrete.scoring import template_states, vocabulary_logprobs
from templates.soft.families import frozen_of
from tests.masked import examples


def test_word_scores_by_hand() -> None:
    """Weights (1) and (0), no bias: a word at 1 has e/(e + 1) for the first label, one at 0 has a half for each."""
    found = np.exp(word_scores(np.array([[1.0], [0.0]]), np.zeros(2), np.array([[1.0], [0.0]])))
    assert found.T.tolist() == [pytest.approx([e / (e + 1), 1 / (e + 1)]), pytest.approx([0.5, 0.5])]
    biased = word_scores(np.zeros((2, 1)), np.array([log(3), 0.0]), np.array([[5.0]]))
    assert np.exp(biased[:, 0]).tolist() == pytest.approx([0.75, 0.25])


def test_no_word_stands_for_two_labels() -> None:
    """The second word is more the second label's; the last is not allowed."""
    scores = np.array([[-0.1, -0.9, -0.2, -np.inf], [-2.0, -0.5, -1.8, -np.inf]])
    assert distinct(scores, 3) == [[0, 2], [1]]
    assert distinct(scores, 1) == [[0], [1]]


@pytest.mark.parametrize(("cue", "labels"), [("topic", ["one", "two"]), ("review", ["good", "bad"])])
def test_the_planted_words_are_found(taught: Path, cue: str, labels: list[str]) -> None:
    """The words that the model was taught to say are the first of each label."""
    frozen = frozen_of(AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught))
    template = Template(f"{cue} {{text}} : {{answer}}")
    found = label_words(frozen, template, examples(cue), labels, k=2)
    assert isinstance(found, Verbalizer)
    assert [its[0] for its in found.words.values()] == labels
    with pytest.raises(UserError, match="asked for k=500 words of label"):
        label_words(frozen, template, examples(cue), labels, k=500)
    with pytest.raises(UserError, match=r"the labels are \['x'\]"):
        label_words(frozen, template, examples(cue), ["x"])


def test_the_output_layer_of_states_is_the_distribution(taught: Path) -> None:
    """What is looked at in the place of an answer is what the model's own output layer makes its words of."""
    frozen = frozen_of(AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught))
    template, some = Template("{text} : {answer}"), examples("topic")[:9]
    layer = frozen.model.get_output_embeddings()
    logits = template_states(frozen, template, some, 4) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    expected = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    assert vocabulary_logprobs(frozen, template, some, 4) == pytest.approx(expected, abs=1e-4)


def test_what_stands_before_an_answer() -> None:
    """A space, a line break, nothing."""
    example = examples("topic")[0]
    assert lead_of(Template("{text} : {answer}"), example) == " "
    assert lead_of(Template("{text}:\n{answer}"), example) == ""
    assert lead_of(Template("{text}:{answer}"), example) == ""
