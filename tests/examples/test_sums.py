import json
import re
from pathlib import Path

import pytest

from eval.tasks.gsm8k import GSM8K
from examples.sums import MOST, Row, Sum, split, write

EQUATION = re.compile(r"(\d+) ([+-]) (\d+) = (\d+)\.")


@pytest.fixture(scope="module")
def halves() -> tuple[list[Row], list[Row]]:
    return split(seed=0, held_out=100, train=1000)


def test_paths_of_a_worked_sum() -> None:
    """5 + 3 - 2 has two paths, and 5 - 6 + 3 only the one that does not fall below nothing."""
    assert Sum(5, (3, -2)).paths() == ["5 + 3 = 8. 8 - 2 = 6.", "5 - 2 = 3. 3 + 3 = 6."]
    assert Sum(5, (-6, 3)).paths() == ["5 + 3 = 8. 8 - 6 = 2."]


def test_rationales_lead_to_answers(halves: tuple[list[Row], list[Row]]) -> None:
    """Every equation holds within 0 and 30, begins where the one before ended, and the last one gives the answer."""
    for row in [*halves[0], *halves[1]]:
        rationale, answer = row["answer"].split("\n#### ")
        reached = None
        for a, sign, b, c in EQUATION.findall(rationale):
            assert int(c) == int(a) + int(f"{sign}{b}")
            assert 0 <= int(c) <= MOST
            assert reached in {None, a}
            reached = c
        assert reached == answer
        assert " ".join(match[0] for match in EQUATION.finditer(rationale)) == rationale


def test_rationales_are_about_their_question(halves: tuple[list[Row], list[Row]]) -> None:
    """The question tells two or three changes, and they are the rationale's, in its order or the reverse."""
    for row in halves[1]:
        told = re.findall(r"(finds|buys|loses|sells) (\d+)", row["question"])
        changes = [("-" if verb in {"loses", "sells"} else "+", n) for verb, n in told]
        solved = [(sign, n) for _, sign, n, _ in EQUATION.findall(row["answer"])]
        assert len(changes) in {2, 3}
        assert solved in (changes, changes[::-1])


def test_held_out_questions_are_new(halves: tuple[list[Row], list[Row]]) -> None:
    """No held-out question, and no sum under other words, is among those to learn from."""
    asked, learnt = ({tuple(re.findall(r"\d+|finds|buys", row["question"])) for row in half} for half in halves)
    assert len(halves[0]) == 100
    assert len({row["question"] for row in halves[0]}) == 100
    assert not asked & learnt
    assert not {row["question"] for row in halves[0]} & {row["question"] for row in halves[1]}


def test_rows_belong_to_the_seed() -> None:
    """The same seed gives the same rows, another seed gives others."""
    assert split(3, held_out=5, train=20) == split(3, held_out=5, train=20)
    assert split(3, held_out=5, train=20) != split(4, held_out=5, train=20)


def test_rows_load_as_gsm8k(halves: tuple[list[Row], list[Row]], tmp_path: Path) -> None:
    """The file is one that the task gsm8k reads, rationale and answer cut apart."""
    path = write(tmp_path / "test.jsonl", halves[0])
    assert [json.loads(line) for line in path.read_text().splitlines()] == halves[0]
    example = GSM8K.load(path, 1)[0]
    assert example.question == halves[0][0]["question"]
    assert f"{example.rationale}\n#### {example.answer}" == halves[0][0]["answer"]
