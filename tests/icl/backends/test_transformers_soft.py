import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache

from icl.backends import Transformers
from icl.backends.soft import inputs, prefixes
from icl.lm import Request
from templates.errors import Unsupported, UserError
from templates.prompt import Prompt, Turn
from templates.soft import Base, Prefix, SoftPrompt, base_of
from templates.tokens import encode
from tests.shapes import make_shape

ROOM = 12


def soft(base: Base, seed: int, tokens: int = 3) -> SoftPrompt:
    """Vectors as large as embeddings are."""
    vectors = 0.3 * np.random.default_rng(seed).normal(size=(tokens, base.hidden))
    return SoftPrompt(vectors.astype(np.float32), base)


def prefix(base: Base, seed: int, tokens: int = 3) -> Prefix:
    """Keys and values of the size that trained ones have."""
    width = base.layers * 2 * base.kv_heads * base.head_size
    return Prefix(np.random.default_rng(seed).normal(size=(tokens, width)).astype(np.float32), base)


def prompts(base: Base) -> list[Prompt]:
    """Soft prompts in front, in the middle, at several places, at the end; prefixes; and plain text among them."""
    a, b = soft(base, 1), soft(base, 2, tokens=5)
    one, two = prefix(base, 3), prefix(base, 4, tokens=6)
    return [
        (a, "Q: 3 apples and 4 more?\nA:"),
        ("Q: 3 apples", b, " and 4 more?\nA:"),
        (b, "Q: 3", a, " apples", a, "?\nA:"),
        ("Q: 5 pens\nA:", a),
        (one, "Q: 3 apples and 4 more?\nA:"),
        (two, "Q: 3 apples", a, "?\nA:"),
        "Q: 3 apples and 4 more?\nA:",
    ]


def alone(model: Any, tokenizer: Any, prompt: Prompt, more: list[int]) -> torch.Tensor:
    """Logits after the prompt and each of the tokens that follow, [1 + more, V], by one pass over all, unpadded."""
    encoded = encode(tokenizer, prompt)
    embedded = model.get_input_embeddings()(torch.tensor([[*encoded.ids, *more]]))
    for place, part in encoded.soft:
        embedded[0, place : place + len(part.vectors)] = torch.tensor(part.vectors)
    cache = DynamicCache(config=model.config)
    before = encoded.prefix
    if before:
        for layer, pair in enumerate(zip(before.keys, before.values, strict=True)):
            cache.update(*(torch.tensor(part)[None].contiguous() for part in pair), layer)
    return torch.as_tensor(model(inputs_embeds=embedded, past_key_values=cache).logits[0, len(encoded.ids) - 1 :])


async def test_a_batch_of_different_prompts_is_each_by_itself(shape: Path) -> None:
    """Seven prompts at once, with other soft prompts, prefixes or none: the greedy tokens and scores of each alone."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(shape), AutoTokenizer.from_pretrained(shape)
    ends = {tokenizer.eos_token_id, model.generation_config.eos_token_id}
    lm = Transformers(str(shape), dtype="float32")
    asked = prompts(base_of(str(shape), model.config))
    said = await asyncio.gather(*(lm.generate(Request(prompt, max_tokens=ROOM)) for prompt in asked))
    scored = await asyncio.gather(*(lm.score(prompt, [" yes", " 17 sheep"]) for prompt in asked))
    with torch.no_grad():
        for prompt, (completion,), scores in zip(asked, said, scored, strict=True):
            tokens: list[int] = []
            while len(tokens) < ROOM and not ends & set(tokens):
                tokens.append(int(alone(model, tokenizer, prompt, tokens)[-1].argmax()))
            assert completion.text == tokenizer.decode(tokens, skip_special_tokens=True).rstrip(
                "\N{REPLACEMENT CHARACTER}"
            )
            assert completion.prompt_tokens == len(encode(tokenizer, prompt))
            for text, score in zip((" yes", " 17 sheep"), scores, strict=True):
                target = tokenizer.encode(text, add_special_tokens=False)
                chances = alone(model, tokenizer, prompt, target).log_softmax(-1)[range(len(target)), target]
                assert score.logprobs == pytest.approx(chances.tolist(), abs=1e-4)
    await lm.aclose()


def test_what_rows_share_is_converted_once(tiny_model: Path) -> None:
    """Six rows, of two prefixes (one as an equal object) and none, of two soft prompts: each is read once.

    Every row has the bits of its own, also in bfloat16.
    """
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    base, read = base_of(str(tiny_model), model.config), list[str]()

    class Counted(Prefix):
        @property
        def keys(self) -> Any:
            read.append(self.digest)
            return super().keys

    class Vectors:
        def __init__(self, seed: int) -> None:
            self.digest, self.its = f"{seed}", soft(base, seed).vectors

        @property
        def vectors(self) -> Any:
            return self.its

    one, equal, two = (Counted(prefix(base, *its).vectors, base) for its in ((3, 3), (3, 3), (4, 6)))
    rows = [one, None, two, equal, one, two]
    cache, mask = prefixes(model, rows)
    assert len(read) <= 3
    for number, its in enumerate(rows):
        size = len(its) if its else 0
        assert mask[number].tolist() == [0] * (6 - size) + [1] * size
        for layer in range(base.layers):
            for part, values in zip(("keys", "values"), (its.keys, its.values) if its else (None, None), strict=True):
                found = getattr(cache.layers[layer], part)[number]  # [K, P, D]
                assert not found[:, : 6 - size].any()
                if its:
                    assert torch.equal(found[:, 6 - size :], torch.tensor(values[layer]).bfloat16())
    a, b = Vectors(1), Vectors(2)
    embedded = inputs(model, [[5] * 8, [5] * 6, [5] * 8], [[(0, a), (5, b)], [(3, a)], [(2, b)]])["inputs_embeds"]
    plain = model.get_input_embeddings()(torch.tensor(5))
    first, second = (torch.tensor(its.vectors).bfloat16() for its in (a, b))
    assert torch.equal(embedded[0], torch.cat([first, plain.expand(2, -1), second]))
    assert torch.equal(embedded[1, 2:], torch.cat([plain.expand(3, -1), first]))
    assert torch.equal(embedded[2], torch.cat([plain.expand(2, -1), second, plain.expand(3, -1)]))


async def test_a_soft_prompt_changes_what_is_said(tiny_model: Path) -> None:
    """In a chat's turn too; samples are those of their seeds."""
    lm = Transformers(str(tiny_model), dtype="float32")
    base = base_of(str(tiny_model), AutoConfig.from_pretrained(tiny_model))
    plain, steered = [
        (await lm.generate(Request((Turn("user", content),), max_tokens=8)))[0].text
        for content in ("Hi", (soft(base, 1), "Hi"))
    ]
    assert plain != steered
    several = await lm.generate(Request((soft(base, 1), "Q:"), n=3, temperature=1.0, max_tokens=8))
    (last,) = await lm.generate(Request((soft(base, 1), "Q:"), temperature=1.0, max_tokens=8, seed=2))
    assert several[2] == last
    await lm.aclose()


async def test_another_model_s_prompt_is_refused(tiny_model: Path) -> None:
    """By its base; vectors of nobody's by their width."""

    class Vectors:
        vectors, digest = np.zeros((2, 63)), "abcdef0123"

    lm = Transformers(str(tiny_model), dtype="float32")
    with pytest.raises(UserError, match="was trained for 'other' with hidden=32"):
        await lm.generate(Request((SoftPrompt(np.zeros((2, 32), np.float32), Base("other", 2, hidden=32)), "Q:")))
    with pytest.raises(UserError, match="vectors of 64 numbers, and abcdef01 has 63"):
        await lm.score((Vectors(), "Q:"), [" yes"])
    await lm.aclose()


async def test_a_model_that_reads_embeddings_otherwise_than_tokens_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Text it says; a soft prompt among its tokens is refused."""
    lm = Transformers(str(make_shape("falcon_h1", tiny_model, tmp_path / "model")), dtype="float32")
    prompt = SoftPrompt(np.zeros((2, 64), np.float32), Base(lm.model, 2, hidden=64))
    assert await lm.generate(Request("Q:", max_tokens=1))
    with pytest.raises(Unsupported, match=r"falcon_h1.* scales"):
        await lm.generate(Request((prompt, "Q:"), max_tokens=1))
    await lm.aclose()
