from dataclasses import dataclass, field
from pathlib import Path

import pytest

from icl.backends.tokens import Growing, context_length, load_tokenizer, room_for, text_of
from templates.errors import PromptTooLong, UserError


@dataclass
class Bytes:
    """A token is a byte of UTF-8; 256 is a special token."""

    calls: list[list[int]] = field(default_factory=list)

    def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """The text, with a mark for half a character."""
        assert skip_special_tokens
        assert not clean_up_tokenization_spaces
        self.calls.append(ids)
        return bytes(i for i in ids if i < 256).decode(errors="replace")


def test_a_completion_gets_what_fits() -> None:
    """Of 50 tokens 28 fit after 100 of 128, and one after 127."""
    assert (room_for(100, 50, 128), room_for(100, 20, 128), room_for(127, 50, 128)) == (28, 20, 1)


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    """The error says how long it is, how much fits, and what to do."""
    with pytest.raises(PromptTooLong, match=r"128 tokens.*room for 128.*fewer or shorter demonstrations"):
        room_for(128, 50, 128)


def grown(text: str, *stop: str) -> Growing:
    """The bytes of the text, one after another, until a stop string."""
    growing = Growing(Bytes(), list("Ünder".encode()), stop)
    for token in text.encode():
        if not growing.stopped:
            growing.add(token)
    return growing


def test_characters_of_several_tokens_arrive_whole() -> None:
    """The text "né€😀" in eleven bytes comes out as it went in."""
    assert grown("né€😀.").text == "né€😀."


def test_half_a_character_at_the_end_is_left_out() -> None:
    """Two of the three bytes of "€" are not text yet, and are text of nothing if no third comes."""
    growing = grown("3 ")
    growing.add(*"€".encode()[:2])
    assert (growing.text, growing.waiting) == ("3 ", True)


def test_special_tokens_have_no_text() -> None:
    """The special token 256 between "a" and "b" leaves "ab"."""
    growing = Growing(Bytes(), [256])
    for token in (97, 256, 98):
        growing.add(token)
    assert growing.text == "ab"


@pytest.mark.parametrize(("stop", "text"), [(("\n\n",), "A: 5"), (("Q:",), "A: 5\n\n"), (("€", "5"), "A: ")])
def test_text_is_cut_at_the_stop_string(stop: tuple[str, ...], text: str) -> None:
    """The stop string, here of several tokens, is not part of the text, nor is what follows."""
    growing = grown("A: 5\n\nQ: 7€", *stop)
    assert (growing.text, growing.stopped) == (text, True)


def test_the_stop_string_that_is_complete_first_counts() -> None:
    """In "abcd", given at once, "bc" is complete before "abcd" is."""
    growing = Growing(Bytes(), [], ("abcd", "bc"))
    growing.add(*b"abcd")
    assert growing.text == "a"


def test_text_in_one_go_is_the_text_token_by_token() -> None:
    """Also where the last character is not whole."""
    for cut in range(11):
        tokens = list("né€😀.".encode())[:cut]
        growing = Growing(Bytes(), [])
        for token in tokens:
            growing.add(token)
        assert text_of(Bytes(), [], tokens) == growing.text


def test_the_context_is_that_of_the_configuration(tiny_model: Path) -> None:
    """The tiny model has 2048 positions."""
    assert context_length(str(tiny_model)) == 2048


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Tokenizer and configuration of an empty folder are a user's error."""
    with pytest.raises(UserError, match=r"tokenizer of .* cannot be loaded; give a model's folder or a hub name"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(UserError, match=r"configuration of .* cannot be loaded"):
        context_length(str(tmp_path))
