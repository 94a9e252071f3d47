from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from icl import Example
from templates import Template
from templates.soft import SoftPrompt
from templates.soft.families import frozen_of
from templates.soft.frozen import Frozen
from templates.soft.rows import Row
from templates.soft.words import rows_of_words, word_logprobs
from tests.masked import KINDS, make_masked
from tests.shapes import PAIRS, SHAPES, make_pair, make_shape

LENGTHS = [1 + number % 6 for number in range(77)]  # tokens of words, as of BANKING77's labels
CASES = [
    *product([*SHAPES, *KINDS], ["none", "soft", "prefix"]),
    *product(["t5", "bart"], ["none", "soft"]),  # take no prefix
]


def rows(seed: int, tokens: int, lengths: list[int], soft: int = 0) -> list[Row]:
    """One question of so many random tokens, the first ones soft, with words of these lengths."""
    random = Random(seed)
    question = random.choices(range(5, 60), k=tokens)
    return [
        Row(
            (*question, *random.choices(range(5, 60), k=length)),
            (*range(soft), *[-1] * (tokens + length - soft)),
            length,
        )
        for length in lengths
    ]


def made(kind: str, tiny: Path, folder: Path) -> Frozen:
    """A tiny random model."""
    folder = folder / "model"
    if kind in KINDS:
        return of(make_masked(kind, folder), AutoModelForMaskedLM)
    if kind in PAIRS:
        return of(make_pair(kind, tiny, folder), AutoModelForSeq2SeqLM)
    return of(make_shape(kind, tiny, folder), AutoModelForCausalLM)


def of(folder: Path, kind: Any) -> Frozen:
    """What the folder has."""
    return frozen_of(kind.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))


@contextmanager
def counted(frozen: Frozen) -> Iterator[list[int]]:
    """Tokens of each run of the model within, or of its encoder where it has one; logits are made in runs of one."""
    ran = list[int]()
    reader = frozen.model.get_encoder() if frozen.model.config.is_encoder_decoder else frozen.model

    def count(_: Any, __: Any, named: dict[str, Any]) -> None:
        if named.get("inputs_embeds") is not None:
            ran.append(named["inputs_embeds"].shape[:2].numel())

    hook = reader.register_forward_pre_hook(count, with_kwargs=True)
    yield ran
    hook.remove()


@pytest.mark.parametrize(("kind", "prompt"), CASES)
def test_words_are_worth_what_each_is_by_itself(kind: str, prompt: str, tiny_model: Path, tmp_path: Path) -> None:
    """Questions of several lengths, with words of one token, of several, and of both, at most two rows at once."""
    frozen = made(kind, tiny_model, tmp_path)
    base = frozen.base
    width = base.layers * 2 * base.kv_heads * base.head_size if prompt == "prefix" else base.hidden
    vectors = None if prompt == "none" else torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    soft = 3 if prompt == "soft" else 0
    each = [[1, 1, 1], [2, 1, 6, 3, 3, 1, 2, 4, 5], [1, 1], [5, 2]]
    worded = [rows(seed, tokens, each[seed], soft) for seed, tokens in enumerate([9, 20, 14, 11])]
    with frozen.held(), torch.no_grad():
        found = word_logprobs(frozen, worded, vectors, 2)
        alone = [[frozen.logprobs(frozen.batch([row]), vectors)[0][0].tolist() for row in its] for its in worded]
    assert found == [[pytest.approx(word, abs=1e-5) for word in its] for its in alone]


@pytest.mark.parametrize("kind", ["llama", "falcon_h1"])
def test_models_that_keep_no_keys_and_values(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    """States, or layers that run again for gradients: the words are worth the same; such layers run again afterwards.

    Behind states, each word is read with the whole question.
    """
    model = AutoModelForCausalLM.from_pretrained(make_shape(kind, tiny_model, tmp_path / "model"))
    frozen, asked = Frozen(model, None), rows(0, 60, [1, 2, 1, 4, 1, 1, 1, 1, 1])
    with frozen.held(recompute=kind == "llama"), torch.no_grad():
        again = model.is_gradient_checkpointing
        assert not frozen.shares
        with counted(frozen) as ran:
            found = word_logprobs(frozen, [asked], None, 2)
        assert model.is_gradient_checkpointing == again == (kind == "llama")
        alone = [frozen.logprobs(frozen.batch([row]), None)[0][0].tolist() for row in asked]
    assert found == [[pytest.approx(word, abs=1e-5) for word in alone]]
    assert ran == ([59, 8 * 2, 63] if kind == "llama" else [2 * 60] * 3 + [2 * 61, 63])


@pytest.mark.parametrize(("kind", "expected"), [
    ("llama", [79, 64 * 5, 79, 13 * 6]),
    ("mistral", [79, 64 * 5, 79, 13 * 6]),
    ("t5", [80, 80]),
    ("bert", [6 * 47]),
])  # fmt: skip
def test_a_question_runs_once_for_many_words(kind: str, expected: Any, tiny_model: Path, tmp_path: Path) -> None:
    """What is run of 77 words of one to six tokens, by hand, and at most a fifth of all words with their question."""
    frozen = made(kind, tiny_model, tmp_path)
    asked = rows(0, 40 if kind == "bert" else 80, LENGTHS)
    assert kind not in SHAPES or frozen.shares
    with frozen.held(), torch.no_grad(), counted(frozen) as ran:
        word_logprobs(frozen, [asked], None, 16)
    assert ran == expected
    assert sum(ran) < sum(len(row.tokens) for row in asked) / 5


@pytest.mark.parametrize(("kind", "soft"), [("llama", ""), ("llama", "{soft:2}"), ("t5", ""), ("bert", "")])
def test_a_prompt_is_cut_into_tokens_once(kind: str, soft: str, tiny_model: Path, tmp_path: Path) -> None:
    """The same rows, and no text is cut twice: the prompt, and then, where its end may matter, it with each word."""
    frozen = made(kind, tiny_model, tmp_path)
    template, example = Template(f"{soft}which {{text}} {{answer}}"), Example("1", {"text": "red cat"})
    if soft:
        template = replace(template, soft=SoftPrompt(np.zeros((2, frozen.base.hidden)), frozen.base))
    words, cut, encode = ["one", "two three", "four"], Counter[str](), frozen.tokenizer.encode

    def counted(text: str, **how: Any) -> Any:
        cut[text] += 1
        return encode(text, **how)

    alone = [frozen.row(template, example, word, 60, end=False) for word in words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen.tokenizer, "encode", counted)
        assert rows_of_words(frozen, template, example, words, 60) == alone
    del cut["a"]  # what shows the special tokens
    assert set(cut.values()) == {1}
    assert set(cut) == {"which red cat"} | (set(words) if kind == "t5" else {f"which red cat {word}" for word in words})
