from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icl.backends.tokens import Growing, begun, context_length, encode, load_tokenizer, room_for, split, text_of
from templates.errors import PromptTooLong, Unsupported, UserError
from templates.prompt import Turn

PIECES = ["<s>", "[user]", "[assistant]", "\n", " yes", " no", "yes", " ", "A:", "Q:", "!"]


@dataclass
class Pieces:
    """Cuts text into the longest pieces of a short list; a token's id is its place there. 0 begins a text."""

    chat_template: str | None = "a template"
    name_or_path: str = "pieces"
    trims: bool = False
    begins: bool = True

    def encode(self, text: str, *, add_special_tokens: bool, verbose: bool) -> list[int]:
        """The ids."""
        del verbose
        ids = [0] if add_special_tokens and self.begins else []
        while text:
            piece = max((p for p in PIECES if text.startswith(p)), key=len)
            ids.append(PIECES.index(piece))
            text = text[len(piece) :]
        return ids

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """Begin of text, then each turn between its role and a line's end."""
        assert not tokenize
        turns = [f"[{m['role']}]{m['content'].strip() if self.trims else m['content']}\n" for m in messages]
        return "<s>" + "".join(turns) + ("[assistant]" if add_generation_prompt else "")


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


@dataclass(frozen=True)
class SoftPrompt:
    """A soft prompt of three vectors."""

    vectors: Any = field(default_factory=lambda: np.zeros((3, 4)))
    digest: str = "0123456789abcdef"


def test_text_gets_the_special_tokens_of_the_tokenizer() -> None:
    """The text "Q:!" is begin-of-text, "Q:", "!"."""
    assert encode(Pieces(), "Q:!") == [0, 9, 10]


def test_text_in_several_strings_is_one_text() -> None:
    """Given as "A:" and " yes", in two strings, they are the tokens of "A: yes"."""
    assert encode(Pieces(), ("A:", " yes")) == [0, 8, 4]


def test_a_chat_is_laid_out_by_the_template_alone() -> None:
    """Begin-of-text comes once, from the template, and the assistant is asked to answer."""
    assert encode(Pieces(), (Turn("user", "Q:!"),)) == [0, 1, 9, 10, 3, 2]


def test_a_chat_that_ends_in_the_assistants_turn_is_continued() -> None:
    """The last turn stays open: neither an end of the turn nor a new one follows "A: ", whose space is kept."""
    assert encode(Pieces(), (Turn("user", "Q:"), Turn("assistant", "A: "))) == [0, 1, 9, 3, 2, 8, 7]


def test_spaces_at_the_end_of_a_continued_turn_survive_a_template_that_trims() -> None:
    """The template strips contents, and "A: " is still "A: "."""
    assert encode(Pieces(trims=True), (Turn("user", "Q:"), Turn("assistant", "A: "))) == [0, 1, 9, 3, 2, 8, 7]


def test_an_empty_assistants_turn_is_the_generation_prompt() -> None:
    """A chat with an open, empty answer is the same as one that asks for an answer."""
    asked, opened = (Turn("user", "Q:"),), (Turn("user", "Q:"), Turn("assistant", ""))
    assert encode(Pieces(), asked) == encode(Pieces(), opened) == [0, 1, 9, 3, 2]


def test_a_model_without_a_chat_template_refuses_chats() -> None:
    """The error names the model and what to do."""
    with pytest.raises(Unsupported, match="pieces has no chat template; use a text prompt"):
        encode(Pieces(chat_template=None), (Turn("user", "Q:"),))


def test_soft_prompts_are_refused() -> None:
    """A prompt with vectors in it is not cut down to its text."""
    with pytest.raises(Unsupported, match=r"text only.*<soft 01234567>Q:"):
        encode(Pieces(), (SoftPrompt(), "Q:"))


def test_split_cuts_where_the_tokens_do() -> None:
    """Together, "A:" and " yes" are the tokens of "A: yes", cut after "A:"."""
    assert split(Pieces(), "A:", " yes") == ([0, 8], [4])


def test_split_never_changes_the_context() -> None:
    """Together, "A: " and "yes" would be "A:" and " yes": the context keeps its space, and "yes" is cut by itself."""
    assert split(Pieces(), "A: ", "yes") == ([0, 8, 7], [6])
    assert split(Pieces(), "A: ", "!") == ([0, 8, 7], [10])


def test_split_continues_a_chat_in_the_assistants_turn() -> None:
    """The continuation stands where the assistant would answer, without special tokens of its own."""
    assert split(Pieces(), (Turn("user", "Q:"),), " no!") == ([0, 1, 9, 3, 2], [5, 10])


def test_an_empty_continuation_is_refused() -> None:
    """There is nothing to score in it."""
    with pytest.raises(UserError, match=r"empty continuation of 'A:'.*leave it out"):
        split(Pieces(), "A:", "")


def test_an_empty_prompt_before_which_nothing_stands_is_refused() -> None:
    """After begin-of-text a continuation can be scored; where the tokenizer adds none, nothing predicts its start."""
    assert split(Pieces(), "", " yes") == ([0], [4])
    with pytest.raises(UserError, match=r"prompt is empty.*tokenizer of 'pieces' puts nothing before.*some text"):
        split(Pieces(begins=False), "", " yes")


def test_a_prompt_of_one_token_is_begun() -> None:
    """One token can be continued, and comes back as it is; none cannot."""
    assert begun([9], "m") == [9]
    with pytest.raises(UserError, match="prompt is empty and the tokenizer of 'm'"):
        begun([], "m")


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


def test_a_real_tokenizer_adds_its_tokens_once(tiny_model: Path) -> None:
    """Text and chat of the tiny model begin with one <s>, and decode to what was laid out."""
    tokenizer = load_tokenizer(str(tiny_model))
    chat = encode(tokenizer, (Turn("user", "Hi"), Turn("assistant", "So ")))
    assert encode(tokenizer, "Hi").count(0) == chat.count(0) == 1
    assert tokenizer.decode(chat) == "<s><|user|>\nHi\n<|assistant|>\nSo "


def test_a_chat_that_the_template_refuses_is_the_users_error(tiny_model: Path) -> None:
    """A template that wants no system turn says so, and its words are in the error."""
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(Unsupported, match=r"refuses.*System role not supported"):
        encode(tokenizer, (Turn("system", "Be brief."),))


def test_the_context_is_that_of_the_configuration(tiny_model: Path) -> None:
    """The tiny model has 2048 positions."""
    assert context_length(str(tiny_model)) == 2048


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Tokenizer and configuration of an empty folder are a user's error."""
    with pytest.raises(UserError, match=r"tokenizer of .* cannot be loaded; give a model's folder or a hub name"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(UserError, match=r"configuration of .* cannot be loaded"):
        context_length(str(tmp_path))
