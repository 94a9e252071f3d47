from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from templates import Template, Turn, Verbalizer
from templates.errors import MissingSlot, TemplateError
from templates.prompt import soft_prompts
from templates.soft import Base, Prefix, SoftPrompt

REVIEW = Template("Review: {review}\nSentiment: {answer}", name="sst2.v1")
COT = Template("Q: {question}\nA: {answer}", response="{rationale} The answer is {answer}.", name="cot")


def test_prompt_and_demo_are_cut_from_one_text() -> None:
    """The prompt is the text up to the answer, without the space that belongs to the answer; the demo is the whole."""
    assert REVIEW.prompt({"review": "a joy"}) == "Review: a joy\nSentiment:"
    assert REVIEW.demo({"review": "a joy"}, "positive") == "Review: a joy\nSentiment: positive"
    assert REVIEW.continuation({"review": "a joy"}, "positive") == " positive"


@given(st.text(), st.text(), st.text())
def test_any_text_comes_out_unchanged_and_demo_starts_with_prompt(question: str, rationale: str, answer: str) -> None:
    """Values are filled in one pass, byte for byte: braces, slots, tabs and line ends in it stay."""
    fields = {"question": question, "rationale": rationale}
    assert COT.prompt(fields) == f"Q: {question}\nA:"
    assert COT.demo(fields, answer) == f"Q: {question}\nA: {rationale} The answer is {answer}."
    assert COT.demo(fields, answer).startswith(COT.prompt(fields))


def test_a_slot_inside_a_value_is_not_filled() -> None:
    """A question that quotes "{answer}" keeps it."""
    assert COT.prompt({"question": "what is {answer}?"}) == "Q: what is {answer}?\nA:"


def test_template_text_is_byte_exact() -> None:
    """Tabs, double spaces and blank lines of the template stand in the prompt: equal to the golden file."""
    template = Template("\tQ:  {question}  \n\n\n\tA:\t{answer}", separator="\n---\n")
    prompt = template.render({"question": "b  \n"}, [({"question": "a"}, "1 ")])
    assert prompt == (Path(__file__).parent / "golden_prompt.txt").read_bytes().decode()


def test_doubled_braces_are_literal() -> None:
    """`{{` and `}}` stand for braces, so JSON can be asked for."""
    assert Template('Write {{"a": 1}} for {x}: {answer}').prompt({"x": "y"}) == 'Write {"a": 1} for y:'


def test_render_plain() -> None:
    """Instruction, demonstrations and query are joined by the separator, the query last and open."""
    template = Template("{x} -> {answer}", instruction="Double it.", separator="\n")
    assert template.render({"x": "3"}, [({"x": "1"}, "2"), ({"x": "2"}, "4")]) == "Double it.\n1 -> 2\n2 -> 4\n3 ->"


def test_render_chat() -> None:
    """A chat template makes the instruction the system turn and each demonstration a user and an assistant turn."""
    template = Template("{question}\n{answer}", response="It is {answer}.", instruction="Add.", chat=True)
    assert template.render({"question": "1+2"}, [({"question": "1+1"}, "2")]) == (
        Turn("system", "Add."),
        Turn("user", "1+1"),
        Turn("assistant", "It is 2."),
        Turn("user", "1+2"),
    )


def test_verbalizer_words_the_answer() -> None:
    """A demonstration shows the label's word, not the label."""
    template = Template("{x}: {answer}", verbalizer=Verbalizer({"1": ["great"], "0": ["awful"]}))
    assert template.demo({"x": "fun"}, "1") == "fun: great"


@pytest.mark.parametrize("text", ["no slot", "{answer} first", "{answer} {answer}", "{x} {answer} "])
def test_text_must_end_in_its_one_answer_slot(text: str) -> None:
    """Any other text is refused, showing it."""
    with pytest.raises(TemplateError, match=r"ends in its one '\{answer\}' slot, got"):
        Template(text)


def test_stray_braces_are_refused() -> None:
    """A lone brace is a mistake, and the message says how to write one."""
    with pytest.raises(TemplateError, match=r"stray '{' in .* write {{ or }} for a brace"):
        Template("{ {x}: {answer}")


def test_missing_slot_names_the_example() -> None:
    """What was asked, what was there, what to do."""
    with pytest.raises(
        MissingSlot, match=r"template 'sst2.v1' needs \['review'\] but example 'sst2/17' has \['text'\]; rename"
    ):
        REVIEW.check({"text": "a joy"}, "sst2/17")
    with pytest.raises(MissingSlot, match=r"needs \['rationale'\]"):
        COT.check({"question": "a"}, "train/3", demo=True)
    with pytest.raises(MissingSlot, match=r"needs \['question'\]"):
        COT.prompt({})


BASE = Base("m", layers=1, hidden=2, kv_heads=1, head_size=2)
SOFT = SoftPrompt(np.arange(10).reshape(5, 2), BASE)


def test_a_soft_prompt_leads_where_the_text_has_no_place_for_it() -> None:
    """Once, before the instruction and all demonstrations; in a chat before its first turn."""
    template = replace(REVIEW, instruction="Judge.", soft=SOFT)
    assert template.render({"review": "a"}, [({"review": "b"}, "good")]) == (
        SOFT,
        "Judge.\n\nReview: b\nSentiment: good\n\nReview: a\nSentiment:",
    )
    chat = replace(template, chat=True).render({"review": "a"})
    assert chat == (SOFT, Turn("system", "Judge."), Turn("user", "Review: a\nSentiment:"))


def test_soft_slots_take_the_prompts_tokens_in_their_order() -> None:
    """Two before the review, three after it, in the demonstration as in the query; the words are those around them."""
    template = Template("{soft:2}Review: {review}{soft:3}\nSentiment: {answer}", soft=SOFT)
    before, after = SOFT.part(0, 2), SOFT.part(2, 5)
    ends = (after, "\nSentiment:")
    assert template.render({"review": "a"}, [({"review": "{soft:2}"}, "good")]) == (
        before,
        "Review: {soft:2}",
        after,
        "\nSentiment: good\n\n",
        *(before, "Review: a", *ends),
    )
    assert template.prompt({"review": "a"}) == "Review: a\nSentiment:"
    assert replace(template, chat=True).render({"review": "a"}) == (Turn("user", (before, "Review: a", *ends)),)
    assert [soft.vectors.tolist() for soft in soft_prompts(template.render({"review": "a"}))] == [
        [[0, 1], [2, 3]],
        [[4, 5], [6, 7], [8, 9]],
    ]


def test_soft_slots_and_prompts_that_do_not_fit_are_refused() -> None:
    """No prompt for the slots, one of another length, a prefix in a slot, a slot behind the answer."""
    template = Template("{soft:2}Review: {review}{soft:3}\nSentiment: {answer}")
    with pytest.raises(TemplateError, match="slots for 5 soft tokens and no soft prompt; give it one"):
        template.render({"review": "a"})
    with pytest.raises(TemplateError, match=r"soft slots for 5 tokens and .* has 3; train a prompt with this template"):
        replace(template, soft=SOFT.part(0, 3))
    with pytest.raises(TemplateError, match="take a soft prompt, got Prefix"):
        replace(template, soft=Prefix(np.ones((5, 4)), BASE)).render({"review": "a"})
    with pytest.raises(TemplateError, match="soft slot in its response"):
        Template("{review} {answer}", response="{answer}{soft:1}")
