"""Which tokens of a vocabulary are words that a text can say.

Dimensions: V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_BEFORE = "a:"  # no word merges with its end, and tokenizers that begin texts with a space of their own have done so


def texts(tokenizer: Any, size: int) -> list[str]:
    """Each token's text, alone; empty for numbers that are no tokens.

    Args:
        tokenizer: the model's.
        size: V, of the model, which may have more numbers than its tokenizer has tokens.
    """
    known = min(size, len(tokenizer))
    found = tokenizer.batch_decode([[token] for token in range(known)], clean_up_tokenization_spaces=False)
    return [*found, *[""] * (size - known)]


def behind(tokenizer: Any, said: Sequence[str]) -> list[list[int]]:
    """The tokens of each text where it stands behind other text, which is where prompts and answers stand.

    None where they are not to be told from those of the text before.
    """
    before = tokenizer.encode(_BEFORE, add_special_tokens=False)
    whole = tokenizer([f"{_BEFORE}{text}" for text in said], add_special_tokens=False)["input_ids"]
    return [list(ids[len(before) :]) if list(ids[: len(before)]) == list(before) else [] for ids in whole]


def words(tokenizer: Any, size: int, lead: str) -> Mask:
    """Whether each token is a whole word: written after `lead`, its text is this token again, [V].

    Special tokens are none; of words that differ in case alone the first is one, as answers are read in any case.

    Args:
        tokenizer: the model's.
        size: V.
        lead: what stands before the answer in the template, mostly a space.
    """
    shown = [text.strip() for text in texts(tokenizer, size)]
    again = behind(tokenizer, [f"{lead}{text}" for text in shown])
    special, seen = set(tokenizer.all_special_ids), set[str]()
    allowed = np.zeros(size, dtype=bool)
    for token, (text, ids) in enumerate(zip(shown, again, strict=True)):
        if token not in special and _said(text) and ids == [token] and text.casefold() not in seen:
            allowed[token] = True
            seen.add(text.casefold())
    return allowed


def triggers(tokenizer: Any, size: int, banned: Sequence[str] = ()) -> Mask:
    """Whether each token may be part of a trigger, [V]: no special one, none that shows nothing, no label's word.

    Args:
        tokenizer: the model's.
        size: V.
        banned: words that must not be in it.
    """
    special, not_those = set(tokenizer.all_special_ids), {word.strip().casefold() for word in banned}
    return np.array(
        [
            token not in special and _said(text.strip()) and text.strip().casefold() not in not_those
            for token, text in enumerate(texts(tokenizer, size))
        ]
    )


def _said(text: str) -> bool:
    return bool(text) and text.isprintable() and "\ufffd" not in text
