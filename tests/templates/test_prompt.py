from dataclasses import dataclass

import numpy as np
import pytest

from templates.prompt import Prompt, Turn, as_json, extended, is_chat, joined, shown, soft_prompts


@dataclass(frozen=True)
class Vectors:
    """The least that counts as a soft prompt."""

    digest: str

    @property
    def vectors(self) -> np.ndarray:
        """Two vectors of three dimensions."""
        return np.zeros((2, 3))


SOFT = Vectors("abcdef0123456789")


def test_strings_run_together() -> None:
    """Neighbouring strings are one; a text without soft prompts is a plain string."""
    assert joined(["a", "b", "", "c"]) == "abc"
    assert joined(["a", "b", SOFT, "c", "d"]) == ("ab", SOFT, "cd")
    assert joined([]) == ""


@pytest.mark.parametrize(
    ("prompt", "more", "expected"),
    [
        ("a", "b", "ab"),
        (("a", SOFT), "b", ("a", SOFT, "b")),
        ((Turn("user", "a"),), "b", (Turn("user", "ab"),)),
    ],
)
def test_extended(prompt: Prompt, more: str, expected: Prompt) -> None:
    """More text goes to the end of a text, or of a chat's last turn."""
    assert extended(prompt, more) == expected


def test_chats_and_texts_are_told_apart() -> None:
    """A tuple of turns is a chat; a tuple of strings and soft prompts is a text."""
    assert is_chat((Turn("user", "a"),))
    assert not is_chat(("a", SOFT))
    assert not is_chat("a")
    assert not is_chat(())


def test_json_is_one_for_one() -> None:
    """Text, soft prompts and turns have different forms, so two prompts are equal only when their JSON is."""
    assert as_json("a") == "a"
    assert as_json(("a", SOFT)) == ["a", {"soft": "abcdef0123456789"}]
    assert as_json((Turn("user", ("a", SOFT)),)) == [{"role": "user", "content": ["a", {"soft": "abcdef0123456789"}]}]


def test_soft_prompts_are_found_and_shown() -> None:
    """They are listed in order, and stand in a shown prompt by their digest."""
    prompt = (Turn("system", ("a", SOFT)), Turn("user", "b"))
    assert soft_prompts(prompt) == [SOFT]
    assert shown(prompt) == "[system] a<soft abcdef01>\n[user] b"
    assert soft_prompts("plain") == []
