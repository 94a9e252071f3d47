import re
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templates.answers import (
    Reader,
    boxed,
    canonical,
    choice,
    label,
    lm_eval_flexible,
    lm_eval_strict,
    number,
    same_answer,
    text,
    yes_no,
)
from templates.errors import TemplateError

SENTIMENT = label({"pos": ["great", "very good", "good"], "neg": "terrible"})
READERS: list[Reader] = [number, choice, yes_no, boxed, lm_eval_strict, lm_eval_flexible, SENTIMENT, text]

integers = st.integers(-(10**20), 10**20)
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=4)
SCRAPS = (
    'answer is|Answer:|A:|####|\\boxed{|\\frac{1}{2}|"answer": |{|}|(|)|$|-|\u2212|1,000|18.|0.5|/2|e5| 10^3|=|+|%|\n'
    '| |"|\\|not|yes|good|(B)|A|\u017f|\u0130|\u0663|\x00|\ud800'
)
scraps = st.lists(st.sampled_from(SCRAPS.split("|"))).map("".join)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("3 + 4 = 7 and 2 remain. The answer is 18.", "18"),
        ("The answer is 5. No: the answer is 18, not 7.", "18"),
        ("The answer is **18**.", "18"),
        ("The answer is:\n\n$$18$$ for 3 days", "18"),
        ("The answer is $18.", "18"),
        ("The answer is $18.00 for 9 eggs", "18"),
        ("Therefore, the answer (arabic numerals) is 18 in 3 days.", "18"),
        ("the correct answer must be 18 of 20", "18"),
        ("The final answer is: $\\boxed{18}$ and 3", "18"),
        ("The answer is 18 dollars and 50 cents.", "18.5"),
        ("The answer is $1,018 and 5 cents.", "1018.05"),
        ("The answer is 5 + 3 = 8 eggs.", "8"),
        ("The answer is 4 boxes * $15/box = $60 a day. 7 days.", "60"),
        ("The answer is 18 (9 * 2 = 18, and 4 left).", "18"),
        ("The answer is -$1,234.50.", "-1234.5"),
        ("The answer is \u22125.", "-5"),
        ("The answer is 50%.", "50"),
        ("The answer is .5", "0.5"),
        ("The answer is 3/4 cup.", "3/4"),
        ("The answer is 2 1/2 cups.", "5/2"),
        ("The answer is 1.5e3.", "1500"),
        ("The answer is 1.5 \\times 10^{6} m.", "1500000"),
        ("The answer is 2 * 10^-3.", "0.002"),
        ("3 + 4 = 7. The answer is not 5.", "7"),
        ("The answer is not 5, it is 8", "8"),
        ("The answer is not 5.", None),
        ("The answer is unknown. 2 of 3", "3"),
    ],
)
def test_number_after_the_last_answer_is(output: str, expected: str | None) -> None:
    """The number of the last "answer is" counts, or the result of the calculation there; never what it is not."""
    assert number(output) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('{"reasoning": "the answer is 3, 4 remain", "answer": "18"}', "18"),
        ('```json\n{"reasoning": "3", "answer": 18}\n```\nExplanation: 9 * 2', "18"),
        ('{"answer": "18"}\n\n{"answer": "20"}', "18"),
        ('{"reasoning": "cut {short, "answer": "18 eggs', "18"),
        ('{"answer": "$9 * 2 = $18 per day", "n": 3}', "18"),
        ('{"answer": {"eggs": 18}, "n": 3}', "18"),
        ('{"reasoning": "3", "answer": "\\u00a318"}', "18"),
        ('{"reasoning": "3", "answer": "\\"18\\""}', "18"),
        ("{'answer': '18', 'n': 3}", "18"),
        ('{"answer": "1,000"}', "1000"),
        ('{"reasoning": "3", "answer": "cannot be determined"}', None),
        ('{"reasoning": "3", "answer": "9 * 2"}', None),
        ('{"answer": "", "reasoning": "The answer is 18."}', "18"),
    ],
)
def test_number_in_the_first_json_field(output: str, expected: str | None) -> None:
    """The first JSON field "answer" is final, broken or not; empty, it says nothing."""
    assert number(output) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("3 + 4\n#### 18\n\nQ: 5?", "18"),
        ("#### Step 3: add\nso \\boxed{18} eggs in 5 days", "18"),
        ("#### 3. Add them\nso 9 eggs", "9"),
        ("so \\boxed{3} or \\boxed{\\text{about } \\$1{,}018} in 5 days", "1018"),
        ("so \\boxed{\\frac{3}{4}} of 5", "3/4"),
        ("so $-\\frac12$", "-1/2"),
        ("so \\boxed{2\\frac{1}{2}}", "5/2"),
        ("so \\boxed{86 + 42 = 128} for 2", "128"),
        ("so \\boxed{x = 8}", "8"),
        ("so \\boxed{18 for 5", "5"),
        ("5 - 3 = 2\nA: 18", "18"),
        ("**Answer:** 18 eggs\n```5```", "18"),
        ("A: She sells 16 - 3 - 4 = 9 eggs a day.\n9 * 2 = 18", "18"),
        ("A = 3, so B = 18", "18"),
        ("no marker, 3 + 4 = 7.", "7"),
        ("The area is 12 m^2, or 12 m_2.", "12"),
        ("It takes 10-15 days", "15"),
        ("on 11/22/2002", "2002"),
        ("18.00", "18"),
        ("-0.00", "0"),
        ("007", "7"),
        ("", None),
        ("none", None),
        ("1/0", "0"),
    ],
)
def test_number_elsewhere(output: str, expected: str | None) -> None:
    r"""Then "####" that is no heading, then \boxed{}, then a short "Answer:", then the last number."""
    assert number(output) == expected


def test_places_are_tried_in_their_order() -> None:
    """Each place is read only where the ones before it are missing: the text loses them one by one."""
    places = [
        '{"answer": 1}',
        "The answer is 2.",
        "#### 3",
        "\\boxed{4}",
        "Answer: 5",
        "6 of",
    ]
    for first in range(len(places)):
        assert number("\n".join(reversed(places[first:]))) == str(first + 1)


@pytest.mark.parametrize(
    "wording",
    [
        "3 of 4. So the answer is {}.",
        "The answer is ${}.",
        "The answer is **{}**!",
        "#### {}",
        "so \\boxed{{{}}} in 2 days",
        '{{"reasoning": "7 * 6 = 42", "answer": "{}"}}',
        "x\nA: {}",
        "3 + 4, which is {} eggs.",
        "{}",
    ],
)
@given(integers | decimals, st.booleans(), st.booleans())
def test_reading_is_the_inverse_of_wording(wording: str, value: int | Decimal, commas: bool, minus: bool) -> None:  # noqa: FBT001
    """Any number comes back as its canonical form, in any wording, with thousands separators, with a real minus."""
    written = f"{value:,f}" if commas and isinstance(value, Decimal) else f"{value:,}" if commas else f"{value:f}"
    if isinstance(value, int) and not commas:
        written = str(value)
    said = wording.format(written.replace("-", "\u2212") if minus else written)
    read = number(said)
    assert read == canonical(written)
    assert Decimal(read or "nan") == value


@given(st.text() | scraps)
def test_no_text_raises(output: str) -> None:
    """Every reader reads every text; what it returns is None or not empty, and None where there is nothing."""
    for read in READERS:
        assert read(output) != ""
        assert read("") is None


@given(st.text() | scraps)
def test_canonical_forms_are_final(answer: str) -> None:
    """The canonical form of a canonical form is itself, and both are one answer; so is what `number` reads."""
    assert canonical(canonical(answer)) == canonical(answer)
    assert same_answer(answer, canonical(answer))
    read = number(answer)
    assert read is None or number(read) == read


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("18.00", "18", True),
        ("18.", "18", True),
        ("1,000", "1000", True),
        ("$1,000", "+1000.0", True),
        ("50%", "50", True),
        ("1234567", "1234599", False),
        ("0.1", "0.10000000000000000001", False),
        ("1/2", "0.5", True),
        ("-3/4", "-0.75", True),
        ("2/6", "1/3", True),
        ("1/3", "0.3333", False),
        ("4/2", "2", True),
        ("\\frac{1}{2}", "1/2", True),
        ("-0", "0", True),
        ("1e3", "1000", True),
        ("18 eggs", "18", False),
        ("11/22/2002", "0.5", False),
        ("Yes", " yes", True),
        ("B", "b", True),
        ("B", "C", False),
        ("", "0", False),
        (None, "18", False),
        ("18", None, False),
        (None, None, False),
    ],
)
def test_same_answer(a: str | None, b: str | None, same: bool) -> None:  # noqa: FBT001
    """Numbers are compared exactly, fractions as rationals, other text in any case; None equals nothing."""
    assert same_answer(a, b) is same
    assert same_answer(b, a) is same
    if a is not None and b is not None:
        assert (canonical(a) == canonical(b)) is same


@given(st.integers(-999, 999), st.integers(1, 999))
def test_fractions_have_one_canonical_form(top: int, bottom: int) -> None:
    """A fraction equals its multiple by 7, and its decimal where that ends (denominators 2^a 5^b)."""
    assert same_answer(f"{top}/{bottom}", f"{7 * top}/{7 * bottom}")
    value = Decimal(top) / Decimal(bottom)  # to 28 digits
    assert same_answer(f"{top}/{bottom}", f"{value:f}") is (Fraction(value) == Fraction(top, bottom))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("The answer is (B).", "B"),
        ("The answer is (b), since (c) is not", "B"),
        ("The answer is A because 2 is even", "A"),
        ("The correct answer is B) 12, not D", "B"),
        ("The answer is 12, which is option C.", "C"),
        ("The answer is not (A) but (C).", "C"),
        ("The answer is a dog.", None),
        ("The answer is (F).", None),
        ('{"answer": "E"}', "E"),
        ("so \\boxed{\\text{D}} and not (A)", "D"),
        ("Answer: C", "C"),
        ("**Answer: (C)**", "C"),
        ("A: (D)", "D"),
        ("#### D", "D"),
        ("(b)", "B"),
        ("B.", "B"),
        ("c", "C"),
        ("C) 12 miles", "C"),
        ("Not (A), so (D) it is.", "D"),
        ("So the best choice is B, I think.", "B"),
        ("So it must be C.", "C"),
        ("A train leaves at 5.", None),
        ("A", "A"),
        ("e.g. trains", None),
        ("It is 25 °C.", None),
    ],
)
def test_choice(output: str, expected: str | None) -> None:
    """A letter is read where it is stated, begins the text, stands in brackets or ends it; an article never is."""
    assert choice(output) == expected


def test_choice_of_other_letters() -> None:
    """A task with ten options says so; by default there are five."""
    assert choice("The answer is (H).") is None
    assert choice("The answer is (H).", letters="ABCDEFGHIJ") == "H"


@given(st.sampled_from("ABCDE"), st.sampled_from(["The answer is ({}).", "({})", "{}.", "Answer: {}", "\\boxed{{{}}}"]))
def test_reading_a_choice_is_the_inverse_of_wording(letter: str, wording: str) -> None:
    """Each letter comes back from each wording."""
    assert choice("A train, then.\n" + wording.format(letter)) == letter


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Dogs have no wings, they say yes. So the answer is no.", "no"),
        ("Yes, though there are no dogs, no.", "yes"),
        ("no", "no"),
        ("So: yes.", "yes"),
        ('{"reasoning": "no,", "answer": "Yes"}', "yes"),
        ("\\boxed{\\text{No}}", "no"),
        ("There are no dogs.", None),
        ("I know.", None),
        ("Not at all", None),
    ],
)
def test_yes_no(output: str, expected: str | None) -> None:
    """A "no" with a noun after it is no answer unless it is stated as one."""
    assert yes_no(output) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("GREAT", "pos"),
        ("It was very good.", "pos"),
        ("It was not good, it was terrible.", "neg"),
        ("Terrible, though others call it good.", "neg"),
        ("Some call it terrible. So the answer is great, or good.", "pos"),
        ('{"answer": "terrible"} good', "neg"),
        ("It was not good.", None),
        ("goodness, the greatest", None),
    ],
)
def test_label(output: str, expected: str | None) -> None:
    """The label whose word is stated, begins the text, or comes last; whole words only, in any case, not denied."""
    assert SENTIMENT(output) == expected


def test_labels_in_a_list_are_their_own_words() -> None:
    """A reader of a list gives the label as the list spells it; the longer word wins where both begin."""
    read = label(["World", "World News", "C++", "Straße"])
    assert [read(output) for output in ("world", "WORLD NEWS today", "c++.", "STRASSE", "straße")] == [
        "World",
        "World News",
        "C++",
        None,
        "Straße",
    ]


@pytest.mark.parametrize("words", [[], {}, {"pos": []}, ["good", " "], {"pos": "", "neg": "bad"}])
def test_label_words_that_are_missing(words: list[str] | dict[str, str | list[str]]) -> None:
    """A label without a word, or with an empty one, is refused."""
    with pytest.raises(TemplateError, match="needs at least one word"):
        label(words)


def test_label_words_that_are_ambiguous() -> None:
    """One word for two labels is refused, and both are named."""
    with pytest.raises(TemplateError, match=r"'Good' stands for both 'pos' and 'fine'; give each its own"):
        label({"pos": ["good"], "fine": ["Good"]})


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("\\boxed{18}", "18"),
        ("\\boxed{3} or \\boxed{ \\frac{1}{2} }", "\\frac{1}{2}"),
        ("\\boxed{\\boxed{18}}", "\\boxed{18}"),
        ("{ \\boxed {\\{1, 2\\}} }}", "\\{1, 2\\}"),
        ("\\\\boxed{18}", "18"),
        ("\\boxed{3} then \\boxed{cut {short}", "3"),
        ("\\boxed{}", None),
        ("boxed{18}", None),
    ],
)
def test_boxed(output: str, expected: str | None) -> None:
    """The content of the last box that is closed, nested braces and all."""
    assert boxed(output) == expected


def test_text() -> None:
    """The text itself, stripped; nothing is None."""
    assert (text(" La \n"), text(" \n")) == ("La", None)


def lm_eval(pattern: str, group_select: int) -> Callable[[str, str], bool]:
    """lm-evaluation-harness's regex filter and exact_match, rewritten from the task's settings."""
    ignored = [",", r"\$", r"(?s).*#### ", r"\.$"]

    def same(output: str, gold: str) -> bool:
        found = re.findall(pattern, output)
        match: str | tuple[str, ...] = found[group_select] if found else "[invalid]"
        if isinstance(match, tuple):
            match = next((group for group in match if group), "[invalid]")
        match = match.strip()
        for each in ignored:
            match, gold = re.sub(each, "", match), re.sub(each, "", gold)
        return match.lower() == gold.lower()

    return same


@pytest.mark.parametrize(
    ("read", "oracle"),
    [
        (lm_eval_strict, lm_eval(r"#### (\-?[0-9\.\,]+)", 0)),
        (lm_eval_flexible, lm_eval(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1)),
    ],
)
@given(
    st.lists(st.sampled_from(["#### ", "18", "18.00", "1,000", "-", "$", ".", ",", " ", "eggs", "5", "\n"])).map(
        "".join
    ),
    st.sampled_from(["18", "18.00", "1000", "-5", "5", "1818", "0.5"]),
)
def test_lm_eval_filters(read: Reader, oracle: Callable[[str, str], bool], output: str, gold: str) -> None:
    """What the two filters read equals the gold answer, as strings, just where lm-evaluation-harness says so."""
    assert (read(output) == gold) is oracle(output, f"reasoning, 1 + 1 = 2\n#### {gold}")


@pytest.mark.parametrize(
    ("output", "strict", "flexible"),
    [
        ("#### 1,000\n#### 5", "1000", "5"),
        ("#### 18.", "18", "18"),
        ("#### $18", None, "18"),
        ("####18", None, "18"),
        ("It costs $18.00, all in all.", None, "18.00"),
        ("-5", None, "-5"),
        ("eggs...", None, None),
        ("", None, None),
    ],
)
def test_lm_eval_filters_by_hand(output: str, strict: str | None, flexible: str | None) -> None:
    """Strict takes the first "#### ", flexible the last run; neither knows that 18.00 is 18."""
    assert (lm_eval_strict(output), lm_eval_flexible(output)) == (strict, flexible)


@pytest.mark.parametrize(
    "unit",
    [
        *("1", "1,111", "{", "}", "\\boxed{", "\\frac{", "\\", "answer is ", "answer is not ", "A: ", '"answer": "'),
        *("#### 1", "-", "1+1=", "1/", "1 1/1 ", "(A)", "no ", "not good ", "\n", "$1 and "),
    ],
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    """A long text of one scrap takes each reader a second at most; a pattern that backtracks would take minutes."""
    output = unit * (2**17 // len(unit))
    start = time.process_time()
    for read in READERS:
        read(output)
    assert time.process_time() - start < 20


@pytest.mark.parametrize("unit", ["1", "1,", "{"])
def test_a_megabyte_is_read(unit: str) -> None:
    """A megabyte of digits, commas or braces: a number of any length is read, digit for digit."""
    output = "The answer is " + unit * (2**20 // len(unit))
    start = time.process_time()
    assert number(output) == {"1": "1" * 2**20, "1,": "1", "{": None}[unit]
    assert boxed(output) is None
    assert same_answer(output, output)
    assert time.process_time() - start < 60
