from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icl.backends.tokens import load_tokenizer
from templates import tokens
from templates.errors import Unsupported, UserError
from templates.prompt import Turn
from templates.soft import Base, Prefix
from templates.tokens import Encoded, begun, encode, split

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


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """A soft prompt of three vectors."""

    vectors: Any = field(default_factory=lambda: np.zeros((3, 4)))
    digest: str = "0123456789abcdef"

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SoftPrompt) and self.digest == other.digest


def test_text_gets_the_special_tokens_of_the_tokenizer() -> None:
    """The text "Q:!" is begin-of-text, "Q:", "!"."""
    assert encode(Pieces(), "Q:!") == Encoded((0, 9, 10))


def test_text_in_several_strings_is_one_text() -> None:
    """Given as "A:" and " yes", in two strings, they are the tokens of "A: yes"."""
    assert encode(Pieces(), ("A:", " yes")) == Encoded((0, 8, 4))


def test_a_chat_is_laid_out_by_the_template_alone() -> None:
    """Begin-of-text comes once, from the template, and the assistant is asked to answer."""
    assert encode(Pieces(), (Turn("user", "Q:!"),)) == Encoded((0, 1, 9, 10, 3, 2))


def test_a_chat_that_ends_in_the_assistants_turn_is_continued() -> None:
    """The last turn stays open: neither an end of the turn nor a new one follows "A: ", whose space is kept."""
    assert encode(Pieces(), (Turn("user", "Q:"), Turn("assistant", "A: "))) == Encoded((0, 1, 9, 3, 2, 8, 7))


def test_spaces_at_the_end_of_a_continued_turn_survive_a_template_that_trims() -> None:
    """The template strips contents, and "A: " is still "A: "."""
    assert encode(Pieces(trims=True), (Turn("user", "Q:"), Turn("assistant", "A: "))) == Encoded((0, 1, 9, 3, 2, 8, 7))


def test_an_empty_assistants_turn_is_the_generation_prompt() -> None:
    """A chat with an open, empty answer is the same as one that asks for an answer."""
    asked, opened = (Turn("user", "Q:"),), (Turn("user", "Q:"), Turn("assistant", ""))
    assert encode(Pieces(), asked) == encode(Pieces(), opened) == Encoded((0, 1, 9, 3, 2))


def test_a_model_without_a_chat_template_refuses_chats() -> None:
    """The error names the model and what to do."""
    with pytest.raises(Unsupported, match="pieces has no chat template; use a text prompt"):
        encode(Pieces(chat_template=None), (Turn("user", "Q:"),))


def test_soft_prompts_stand_in_their_places() -> None:
    """Before all text also before the special tokens, as in PEFT; between texts, which are cut into tokens apart."""
    soft = SoftPrompt()
    assert encode(Pieces(), (soft, "Q:")) == Encoded((0, 0, 0, 0, 9), ((0, soft),))
    assert encode(Pieces(), ("Q:", soft, " yes", soft)) == Encoded((0, 9, 0, 0, 0, 4, 0, 0, 0), ((2, soft), (6, soft)))
    assert split(Pieces(), ("Q:", soft, "A:"), " yes") == (Encoded((0, 9, 0, 0, 0, 8), ((2, soft),)), [4])


def test_soft_prompts_stand_in_a_chat() -> None:
    """In the turn where they were put, between the template's own tokens; also in the turn that is continued."""
    soft = SoftPrompt()
    turns = (Turn("user", (soft, "Q:")), Turn("assistant", ("A:", soft)))
    assert encode(Pieces(), turns) == Encoded((0, 1, 0, 0, 0, 9, 3, 2, 8, 0, 0, 0), ((2, soft), (9, soft)))


def test_a_prefix_stands_before_everything() -> None:
    """It takes up positions, not tokens; anywhere else it is refused."""
    prefix = Prefix(np.ones((5, 4)), Base("m", layers=1, kv_heads=1, head_size=2))
    encoded = encode(Pieces(), (prefix, "Q:"))
    assert (encoded.ids, encoded.prefix, len(encoded)) == ((0, 9), prefix, 2 + 5)
    with pytest.raises(Unsupported, match="a prefix stands once, before everything else"):
        encode(Pieces(), ("Q:", prefix))


def test_soft_tokens_alone_have_special_tokens_after_them() -> None:
    """So that what is scored after them is the continuation alone."""
    soft: Any = SoftPrompt()
    assert encode(Pieces(), (soft,)).ids == (0, 0, 0, 0)
    assert split(Pieces(), (soft,), " yes") == (Encoded((0, 0, 0, 0), ((0, soft),)), [4])


def test_what_a_user_writes_is_never_taken_for_a_soft_prompt() -> None:
    """The mark that stands for soft prompts while a chat is laid out is one that its text does not have."""
    soft: Any = SoftPrompt()
    mark = tokens._mark((Turn("user", ("<|soft 0/0|>", soft)),))
    assert mark == "<|soft 1/{}|>"
    laid_out = tokens._chat(Pieces(), (Turn("user", ("<|soft 0/0|><|soft 2/7|>", soft)),))
    assert laid_out == ("<s>[user]<|soft 0/0|><|soft 2/7|>", soft, "\n[assistant]")


def test_what_leads_a_chat_stands_before_its_layout() -> None:
    """Soft tokens, or a prefix, before the begin-of-text that the chat template writes; after a turn none may stand."""
    prefix = Prefix(np.ones((5, 4)), Base("m", layers=1, kv_heads=1, head_size=2))
    soft: Any = SoftPrompt()
    assert encode(Pieces(), (soft, Turn("user", "Q:"))) == Encoded((0, 0, 0, 0, 1, 9, 3, 2), ((0, soft),))
    assert encode(Pieces(), (prefix, Turn("user", "Q:"))) == Encoded((0, 1, 9, 3, 2), (), prefix)
    with pytest.raises(UserError, match="leads a chat or stands in a turn's text"):
        encode(Pieces(), (Turn("user", "Q:"), soft))


def test_split_cuts_where_the_tokens_do() -> None:
    """Together, "A:" and " yes" are the tokens of "A: yes", cut after "A:"."""
    assert split(Pieces(), "A:", " yes") == (Encoded((0, 8)), [4])


def test_split_never_changes_the_context() -> None:
    """Together, "A: " and "yes" would be "A:" and " yes": the context keeps its space, and "yes" is cut by itself."""
    assert split(Pieces(), "A: ", "yes") == (Encoded((0, 8, 7)), [6])
    assert split(Pieces(), "A: ", "!") == (Encoded((0, 8, 7)), [10])


def test_split_continues_a_chat_in_the_assistants_turn() -> None:
    """The continuation stands where the assistant would answer, without special tokens of its own."""
    assert split(Pieces(), (Turn("user", "Q:"),), " no!") == (Encoded((0, 1, 9, 3, 2)), [5, 10])


def test_an_empty_continuation_is_refused() -> None:
    """There is nothing to score in it."""
    with pytest.raises(UserError, match=r"empty continuation of 'A:'.*leave it out"):
        split(Pieces(), "A:", "")


def test_an_empty_prompt_before_which_nothing_stands_is_refused() -> None:
    """After begin-of-text a continuation can be scored; where the tokenizer adds none, nothing predicts its start."""
    assert split(Pieces(), "", " yes") == (Encoded((0,)), [4])
    with pytest.raises(UserError, match=r"prompt is empty.*tokenizer of 'pieces' puts nothing before.*some text"):
        split(Pieces(begins=False), "", " yes")


def test_a_prompt_of_one_token_is_begun() -> None:
    """One token can be continued, and comes back as it is; none cannot."""
    assert begun([9], "m") == [9]
    with pytest.raises(UserError, match="prompt is empty and the tokenizer of 'm'"):
        begun([], "m")


def test_a_real_tokenizer_adds_its_tokens_once(tiny_model: Path) -> None:
    """Text and chat of the tiny model begin with one <s>, and decode to what was laid out."""
    tokenizer = load_tokenizer(str(tiny_model))
    chat = encode(tokenizer, (Turn("user", "Hi"), Turn("assistant", "So ")))
    assert encode(tokenizer, "Hi").ids.count(0) == chat.ids.count(0) == 1
    assert tokenizer.decode(chat.ids) == "<s><|user|>\nHi\n<|assistant|>\nSo "


def test_a_chat_that_the_template_refuses_is_the_users_error(tiny_model: Path) -> None:
    """A template that wants no system turn says so, and its words are in the error."""
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(Unsupported, match=r"refuses.*System role not supported"):
        encode(tokenizer, (Turn("system", "Be brief."),))
