import operator
import re
from fractions import Fraction
from pathlib import Path

import pytest

from templates import load_demonstrations, load_template
from templates.answers import number, same_answer
from templates.errors import DataError, UnknownName
from templates.library import library_names, source_of

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
EQUATION = re.compile(r"([\d.]+) ([-+*/]) ([\d.]+) = (\d+(?:\.\d+)?)")
TEMPLATES = [name for name in library_names() if ".demos." not in name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_reading_is_the_inverse_of_wording(name: str) -> None:
    """What a template shows as a demonstration's answer, its own reader reads back."""
    template = load_template(name)
    for demo in load_demonstrations("math.demos.v1"):
        said = template.continuation(demo | {"text": demo["question"]}, demo["answer"])
        assert same_answer(template.reader(said), demo["answer"])


@pytest.mark.parametrize("name", library_names())
def test_every_text_names_its_source(name: str) -> None:
    """Prompt texts say where they come from."""
    assert len(source_of(name)) > 20


def test_eight_demonstrations_end_in_their_answers() -> None:
    """The number that each rationale ends with is the answer, and every equation in it holds."""
    demos = load_demonstrations("math.demos.v1")
    assert len(demos) == 8
    for demo in demos:
        assert number(demo["rationale"]) == demo["answer"]
        equations = EQUATION.findall(demo["rationale"])
        assert len(equations) == demo["rationale"].count("=") > 0
        for a, sign, b, c in equations:
            assert OPERATORS[sign](Fraction(a), Fraction(b)) == Fraction(c)


def test_plain_and_chat_ask_the_same() -> None:
    """Each plain template has its chat twin, with the same answers."""
    plain = [name for name in TEMPLATES if "chat" not in name]
    for name in plain:
        chat = load_template(name.replace(".v", "-chat.v"))
        assert chat.chat
        assert chat.response == load_template(name).response


def test_unknown_names_offer_the_nearest() -> None:
    """A slip of the finger is answered with the name that was meant."""
    with pytest.raises(UnknownName, match=r"no prompt text 'math\.cot\.v9' in the library; the nearest: math\.cot\.v1"):
        load_template("math.cot.v9")
    with pytest.raises(UnknownName, match="holds demonstrations, not a template"):
        load_template("math.demos.v1")
    with pytest.raises(UnknownName, match="is a template, not a set of demonstrations"):
        load_demonstrations("math.cot.v1")


def test_own_files(tmp_path: Path) -> None:
    """A user's own YAML file loads as the library's do, labels included; a bad one names file and field."""
    path = tmp_path / "mine.yaml"
    path.write_text('source: mine\ntext: "Review: {text}\\nMood: {answer}"\nlabels: {pos: [good], neg: [bad]}\n')
    template = load_template(path)
    assert template.demo({"text": "fun"}, "pos") == "Review: fun\nMood: good"
    assert template.reader(" bad") == "neg"
    path.write_text("source: mine\ntext: '{answer}'\nstopp: []\n")
    with pytest.raises(DataError, match=r"mine.yaml, stopp: Extra inputs are not permitted"):
        load_template(path)
    path.write_text("text: [")
    with pytest.raises(DataError, match="is not YAML"):
        load_template(path)
    with pytest.raises(DataError, match="no template file"):
        load_template(tmp_path / "none.yaml")
