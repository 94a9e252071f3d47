r"""Numbers as texts write them: `-$1,234.50`, `1.5e6`, `2 1/2`, `\frac{3}{4}`.

Digits stay strings, so nothing is rounded, and every pattern passes over a text once, however long that is.
"""

import re
from collections import deque
from fractions import Fraction

_REWRITES = (  # what LaTeX and typography write -> what is read below
    (re.compile(r"[\u2212\u2013]"), "-"),
    (re.compile(r"\\{1,2}([$%])"), r"\1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\{1,2}[,!](?=[0-9])"), ""),
    (re.compile(r"\\{1,2}(?:times|cdot)\b"), "*"),
    (re.compile(r"(?<=[0-9])(?=\\{1,2}[dt]?frac)"), " "),
    (re.compile(r"\\{1,2}[dt]?frac\s?\{(-?[0-9]+)\}\s?\{([0-9]+)\}"), r"\1/\2"),
    (re.compile(r"\\{1,2}[dt]?frac\s?([0-9])\s?([0-9])"), r"\1/\2"),
)
_CENTS = re.compile(r"(?<![0-9,])(?:\$([0-9][0-9,]*+)|([0-9][0-9,]*+) dollars?) and ([0-9]{1,2}) cents?\b")

_NUMERAL = r"""
    (?<![0-9^_]) (?<!\^[-{])                                  # not within a number, an exponent or an index
    (?P<sign> (?<![\w)\]}]) - [$€£¥₹]? )?                     # a sign, not a subtraction or a range
    (?:
        (?: (?P<whole> [0-9]{1,12}) \s )?
        (?<!/) (?P<over> [0-9]{1,12}) / (?P<under> 0{0,3} [1-9] [0-9]{0,11}) (?! [0-9] | [./][0-9] )
    |
        (?P<digits> [0-9]++ (?: ,[0-9]{3} (?![0-9]) )*+ (?: \.[0-9]++ )?+ | (?<![\w.]) \.[0-9]++ )
        (?: [eE] (?P<exponent> [-+]?[0-9]{1,3}) (?!\w)
          | \s?[\u00d7*x]\s?10\^\{? (?P<power> -?[0-9]{1,3}) (?![0-9]) )?
    )
    """
_ANYWHERE = re.compile(_NUMERAL, re.VERBOSE)
_ALONE = re.compile(rf"\s* \+? [$€£¥₹]? {_NUMERAL} \s? %? \.? \s*", re.VERBOSE)
_GOES_ON = re.compile(  # after the 4 of "4 boxes * $15 = $60": units, then an operator and what it applies to
    r"""
    [)\]%$]*+ (?: (?!\s?x\s?[$0-9]) \s?\(?[A-Za-z]++\)? | /[A-Za-z]++ ){0,6}+ [)\]]*+ \s*+
    (?: [-+*/\u00d7\u00f7^x] \s*+ [($€£]*+ [0-9.] | [=≈] )
    """,
    re.VERBOSE,
)


def plain(text: str) -> str:
    r"""The text with LaTeX's and typography's ways of writing numbers rewritten as plain ones.

    >>> plain(r"\$1{,}000 and 2\frac{1}{2}, or 18 dollars and 5 cents")
    '$1,000 and 2 1/2, or 18.05'
    """
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _CENTS.sub(lambda match: f"{match[1] or match[2]}.{match[3]:0>2}", text)


def last(text: str) -> str | None:
    """The last number in the text."""
    found = deque(_ANYWHERE.finditer(plain(text)), maxlen=1)
    return _written(found[0]) if found else None


def result(text: str) -> str | None:
    """The number that a statement arrives at: its first one, or what stands after the last `=` of a calculation.

    A calculation without a result is no number.

    >>> result("18 eggs, 3 more than yesterday"), result("5 + 3 = 8 eggs"), result("5 + 3")
    ('18', '8', None)
    """
    text = plain(text)
    found = _ANYWHERE.search(text)
    if found and _GOES_ON.match(text, found.end()):
        equals = max(text.rfind("="), text.rfind("≈"))
        found = _ANYWHERE.search(text, equals) if equals > found.start() else None
    return _written(found) if found else None


def exact(text: str) -> str | None:
    """The one form of a text that is a number and nothing else, or None.

    A fraction is its exact value: a decimal where that ends, otherwise in lowest terms.

    >>> exact("$1,000.00"), exact("1/2"), exact("2/6"), exact("18 eggs")
    ('1000', '0.5', '1/3', None)
    """
    found = _ALONE.fullmatch(plain(text))
    if not found:
        return None
    number = _written(found)
    if "/" not in number:
        return number
    value = Fraction(number)
    for places in range(64):  # 2 and 5 divide a denominator of 15 digits at most 50 times
        if 10**places % value.denominator == 0:
            return _decimal(str(abs(value) * 10**places), -places, negative=value < 0)
    return str(value)


def _written(found: re.Match[str]) -> str:
    """The number in plain digits; a fraction stays one, as it is written."""
    sign, whole, over, under = found["sign"], found["whole"], found["over"], found["under"]
    if under:
        top = int(whole or 0) * int(under) + int(over)
        return f"{'-' if sign and top else ''}{top}/{int(under)}"
    return _decimal(
        found["digits"].replace(",", ""), int(found["exponent"] or found["power"] or 0), negative=bool(sign)
    )


def _decimal(digits: str, exponent: int, *, negative: bool) -> str:
    """Digits with at most one point, times 10^exponent, without idle zeros."""
    whole, _, part = digits.partition(".")
    if exponent >= 0:
        part = part.ljust(exponent, "0")
        whole, part = whole + part[:exponent], part[exponent:]
    else:
        whole = whole.rjust(-exponent, "0")
        whole, part = whole[:exponent], whole[exponent:] + part
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    number = f"{whole}.{part}" if part else whole
    return f"-{number}" if negative and number != "0" else number
