import re
from fractions import Fraction
from itertools import islice
from random import Random

import pytest

from eval.worlds.sums import CAREFUL, Change, Sum, drawn, endless, equations, rationale, split, story

BAGS = Sum(Change("+", 7), (Change("+", 6, groups=2), Change("-", 3), Change("×", 2), Change("-", 5)))


def value(chain: str) -> Fraction:
    """What a chain of additions, subtractions and products comes to, products first."""
    total = Fraction(0)
    for sign, term in re.findall(r"([+-]?) ?(\d+(?: × \d+)*)", chain):
        product = Fraction(1)
        for factor in term.split(" × "):
            product *= int(factor)
        total += -product if sign == "-" else product
    return total


def test_step_by_step() -> None:
    """7 and two bags of 6, less 3, doubled, less 5: five equations for the changes, and one for the bags."""
    assert equations(BAGS) == ["2 × 6 = 12", "7 + 12 = 19", "19 - 3 = 16", "16 × 2 = 32", "32 - 5 = 27"]
    assert (BAGS.totals, BAGS.answer, BAGS.steps) == ([7, 19, 16, 32, 27], 27, 5)


def test_in_haste() -> None:
    """What is added and taken away in a row stands in one equation; a product ends the row."""
    assert equations(BAGS, hasty=True) == ["2 × 6 = 12", "7 + 12 - 3 = 16", "16 × 2 = 32", "32 - 5 = 27"]


def test_groups_at_first() -> None:
    """Three boxes of four are counted before anything else."""
    boxes = Sum(Change("+", 4, groups=3), (Change("+", 1),))
    assert equations(boxes) == ["3 × 4 = 12", "12 + 1 = 13"]


@pytest.mark.parametrize("seed", range(200))
def test_every_equation_holds_and_the_last_one_is_the_answer(seed: int) -> None:
    """Each rationale's equations are true, worked out by other means, and end in the answer."""
    random = Random(seed)
    one = drawn(random)
    written = re.findall(r"(\d[\d ×+-]*) = (\d+)", rationale(one, random))
    assert written
    assert all(value(left) == int(right) for left, right in written)
    assert int(written[-1][1]) == one.answer
    assert 2 <= one.steps <= 5
    assert all(0 <= total <= 60 for total in one.totals)


def test_the_story_tells_every_number() -> None:
    """All numbers of the sum stand in its story, in their order; the answer need not."""
    for seed in range(200):
        random = Random(seed)
        one = drawn(random)
        told = [int(number) for number in re.findall(r"\d+", story(one, random))]
        wanted = [
            number
            for part in (one.start, *one.changes)
            for number in ((part.groups, part.amount) if part.groups > 1 else (part.amount,))
        ]
        rest = iter(told)
        assert all(number in rest for number in wanted), (told, wanted)
        assert len(told) - len(wanted) in (0, 1)  # a distractor tells one more


def test_every_way_to_word_it_comes_up() -> None:
    """Haste and every careful wording are among the rationales of one sum."""
    random = Random(0)
    found = {rationale(BAGS, random) for _ in range(200)}
    assert len(found) == len(CAREFUL) + 1


def test_no_sum_of_one_split_is_in_the_other() -> None:
    """Not even in other words: the splits are told apart by the numbers."""
    random = Random(0)
    drawn_ones = [drawn(random) for _ in range(5000)]
    held = {one for one in drawn_ones if one.held_out}
    assert 400 < len(held) < 900  # an eighth
    texts = [{e.question for e in islice(endless(Random(1), held_out=side), 3000)} for side in (True, False)]
    assert not texts[0] & texts[1]


def test_a_split_is_the_same_each_time_and_repeats_no_question() -> None:
    """Seeded; every question is asked once; ids are unique."""
    once, again = split(0, 300, held_out=True), split(0, 300, held_out=True)
    assert once == again
    assert len({e.question for e in once}) == len({e.id for e in once}) == 300
    assert split(1, 10, held_out=True) != once[:10]
