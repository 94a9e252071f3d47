r"""Reading answers: a model's text -> its answer, or None where none can be read. None is never a vote.

A text states its answer in one of a few places. Every reader looks there first, in this order:

1. the first JSON field "answer", which is final: what a text fills in there, it means;
2. after the last "answer is";
3. after the last "####";
4. in the last \boxed{};
5. after the last "Answer:", or "A:" at the start of a line, that has only a few words after it;

and then elsewhere, each as its docstring says. "The answer is not 5" states nothing.
"""

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from templates import numerals
from templates.errors import TemplateError

Reader = Callable[[str], str | None]

_FLAGS = re.IGNORECASE | re.MULTILINE
_FIELD = re.compile(
    r"""(?:\\?["'](?:final[ _])?answer\\?["']\s*+:\s*+)++(?:"((?:[^"\\]|\\.)*+)|(\{[^}]*+|[^\n}]*+))""",
    re.IGNORECASE | re.DOTALL,
)
_NOT = re.compile(r"\banswer (?:is not|isn't)\b.*?(?=[.,;](?:\s|\Z)| but |\n|\Z)", _FLAGS)
_ANSWER_IS = re.compile(
    r"\banswer(?:\s\([^()\n]{1,40}\))?[*_]{0,3}\s(?:is|(?:must|should|would|will) be)\b(?:[:\s*_`]|\$\$|\\[\[(])*+",
    _FLAGS,
)
_SENTENCE = re.compile(r".*?(?=[.!?](?:\s|\Z)|\n|\Z)")
_ANSWER = re.compile(r"(?:\banswer[*_]{0,3}\s?[:=]|^[ ]*+A:)[\s*_$`]*+(.*)", _FLAGS)
_FEW = 6  # words; what is longer after "Answer:" is reasoning
_HASHES = re.compile(r"####[ ]*+(?![a-z]++ [0-9]|[0-9]++\. [a-z])(.*)", re.IGNORECASE)  # "#### Step 3" is a heading
_BRACES = re.compile(r"\\{1,2}boxed\s*+\{|\\.|[{}]", re.DOTALL)
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_YES_NO_ALONE = re.compile(r"\b(yes|no)\b(?=\W*\Z|[.,;:!\n])", re.IGNORECASE)
_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def same_answer(a: str | None, b: str | None) -> bool:
    """Whether two answers are one. None equals nothing, not even None.

    Numbers are compared exactly, and so are fractions: 1/2 is 0.5. Everything else is text in any case.

    >>> same_answer("1,000", "$1000.00"), same_answer("1/2", "0.5"), same_answer("1234567", "1234599")
    (True, True, False)
    """
    return a is not None and b is not None and canonical(a) == canonical(b)


def canonical(answer: str) -> str:
    """The form in which equal answers are equal strings: votes are counted by it.

    >>> canonical("18.00"), canonical("2/4"), canonical(" Yes ")
    ('18', '0.5', 'yes')
    """
    return numerals.exact(answer) or answer.strip().casefold()


def spelt_alike(answers: Sequence[str | None]) -> list[str | None]:
    """The answers, equal ones spelt as the first of them is, so that they are counted together.

    >>> spelt_alike(["1/2", None, "B", "0.5", "b"])
    ['1/2', None, 'B', '1/2', 'B']
    """
    first: dict[str, str] = {}
    return [None if answer is None else first.setdefault(canonical(answer), answer) for answer in answers]


def text(output: str) -> str | None:
    """The whole text, without the white space around it."""
    return output.strip() or None


def number(output: str) -> str | None:
    """The number stated, or else the last one: plain digits; a fraction stays as it is written.

    >>> number("She eats 3 of 12, so 9 are left. The answer is 9 * $2.00 = $18.00 for 9 eggs.")
    '18'
    """
    return _read(output, numerals.result, numerals.last)


def boxed(output: str) -> str | None:
    r"""What stands in the last complete \boxed{}.

    >>> boxed(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    opened: list[int | None] = []
    content = ""
    for token in _BRACES.finditer(output):
        if "boxed" in token[0]:
            opened.append(token.end())
        elif token[0] == "{":
            opened.append(None)
        elif token[0] == "}" and opened and (start := opened.pop()) is not None:
            content = output[start : token.start()]
    return content.strip() or None


def choice(output: str, letters: str = "ABCDE") -> str | None:
    """The letter stated; else the one that the text begins with, the last one in brackets, or the one it ends in.

    >>> choice("A train leaves at 5. The answer is (b)."), choice("A train leaves at 5.")
    ('B', None)
    """
    said, begins, bracketed, ends = _choice_patterns(letters)

    def anywhere(part: str) -> str | None:
        return _first(begins, part) or _last(bracketed, part) or _last(ends, part)

    found = _read(output, lambda part: _first(said, part) or anywhere(part), anywhere)
    return found and found.upper()


def yes_no(output: str) -> str | None:
    """The "yes" or "no" stated; else the one that the text begins with, or the last one before a stop.

    >>> yes_no("Dogs have no wings. So the answer is no."), yes_no("Yes, they do."), yes_no("There are no dogs.")
    ('no', 'yes', None)
    """
    found = _read(output, lambda part: _first(_YES_NO, part), lambda rest: _begun_or_last(_YES_NO, _YES_NO_ALONE, rest))
    return found and found.lower()


def label(words: Sequence[str] | Mapping[str, str | Sequence[str]]) -> Reader:
    """A reader of label words in any case: the one stated; else the one that the text begins with, or the last one.

    >>> label(["positive", "negative"])("Positive, though the ending is negative.")
    'positive'
    >>> label({"1": ["great", "good"], "0": "terrible"})("It was not good. It was Terrible!")
    '0'

    Args:
        words: the labels themselves, or for each label its word or words.

    Raises:
        TemplateError: there are no words, one of them is empty, or one stands for two labels.
    """
    pairs = words.items() if isinstance(words, Mapping) else zip(words, words, strict=True)
    owner: dict[str, str] = {}
    listed = [(name, word.strip()) for name, its in pairs for word in ([its] if isinstance(its, str) else its)]
    for name, word in listed:
        if (other := owner.setdefault(word.casefold(), name)) != name:
            raise TemplateError(f"the word {word!r} stands for both {other!r} and {name!r}; give each its own")
    if not owner or "" in owner:
        raise TemplateError(f"a label needs at least one word, none of them empty, got {words!r}")
    longest_first = "|".join(re.escape(word) for _, word in sorted(listed, key=lambda pair: -len(pair[1])))
    pattern = re.compile(rf"(?<!\w)(?<!\bnot )({longest_first})(?!\w)", re.IGNORECASE)

    def read(output: str) -> str | None:
        found = _read(output, lambda part: _first(pattern, part), lambda rest: _begun_or_last(pattern, pattern, rest))
        return found and owner.get(found.casefold())

    return read


def lm_eval_strict(output: str) -> str | None:
    """What lm-evaluation-harness's `strict-match` filter reads on GSM8K: the first `#### 18`, to be compared by ==."""
    found = _STRICT.search(output)
    return found and _as_lm_eval_compares(found[1])


def lm_eval_flexible(output: str) -> str | None:
    """What its `flexible-extract` filter reads: the last run of digits, `$`, `.` and `,`, to be compared by ==."""
    found = deque(_FLEXIBLE.finditer(output), maxlen=1)
    return _as_lm_eval_compares(found[0][0]) if found else None


def _as_lm_eval_compares(found: str) -> str | None:
    answer = found.replace(",", "").replace("$", "").removesuffix(".")
    return answer if re.search("[0-9]", answer) else None


def _read(output: str, said: Reader, anywhere: Reader) -> str | None:
    """What is stated, as `said` reads it, or else what `anywhere` finds."""
    if field := _json_answer(output):
        return said(field)
    output = _NOT.sub("", output)
    return next(filter(None, map(said, _stated(output))), None) or anywhere(output)


def _json_answer(output: str) -> str | None:
    """The value of the first JSON field "answer", also in JSON that is broken or cut short."""
    found = _FIELD.search(output)
    if not found:
        return None
    quoted, bare = found.groups()
    try:
        return bare if quoted is None else str(json.loads(f'"{quoted}"', strict=False))
    except ValueError:
        return quoted


def _stated(output: str) -> Iterator[str]:
    """The parts of the text that may hold its answer, the most explicit first."""
    for marker in deque(_ANSWER_IS.finditer(output), maxlen=1):
        yield from (sentence[0] for sentence in [_SENTENCE.match(output, marker.end())] if sentence)
    yield from _HASHES.findall(output)[-1:]
    yield from filter(None, [boxed(output)])
    yield from [part for part in _ANSWER.findall(output) if len(part.split()) <= _FEW][-1:]


def _first(pattern: re.Pattern[str], part: str) -> str | None:
    found = pattern.search(part)
    return found and next(filter(None, found.groups()))


def _last(pattern: re.Pattern[str], part: str) -> str | None:
    found = deque(pattern.finditer(part), maxlen=1)
    return next(filter(None, found[0].groups())) if found else None


def _begun_or_last(begins: re.Pattern[str], last: re.Pattern[str], output: str) -> str | None:
    start = re.compile(r"\w|\Z").search(output)
    begun = start and begins.match(output, start.start())
    return begun[1] if begun else _last(last, output)


@lru_cache
def _choice_patterns(letters: str) -> tuple[re.Pattern[str], ...]:
    """How a letter is stated, begins a text, stands in brackets, and ends a text."""
    upper, lower = f"[{re.escape(letters.upper())}]", f"[{re.escape(letters.lower())}]"
    article = r"(?!A\s+(?!because|since|as\b|for\b|is\b|with\b)[a-z])"
    stated = rf"(?:(?i:option|choice)\W++)?{article}({upper}(?![\w'\u2019])|{lower}(?=\W*\Z|[).:](?!\w)))"
    return (
        re.compile(rf"\(({upper}|{lower})\)|^\W*+{stated}"),
        re.compile(rf"^\W*+(?!A:)({upper}|{lower})(?:[).:](?!\w)|\W*\Z)"),
        re.compile(rf"\(({upper})\)|\b(?i:option|choice)\s+(?:is\s+)?({upper})\b"),
        re.compile(rf"(?<![°0-9])\b({upper})\W*\Z"),
    )
