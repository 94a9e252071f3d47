"""How much the transformers backend gains over plain transformers: `python -m bench.transformers_backend`.

On a model of some seven million random weights and 8,000 tokens, which it makes itself. Prints medians of three runs.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from icl.backends.transformers import Transformers
from icl.concurrency import gather
from icl.lm import Request
from templates.tokens import split
from tests.tiny import make_tiny

QUESTION = (
    "Q: Tom has {a} apples and buys {b} bags of {c} apples each. He gives {d} to Ann. How many apples are left?\nA:"
)
ANSWER = " He buys {b} times {c} apples, and then gives {d} of them to Ann. The answer is {a}."


def main() -> None:
    """Print one row per comparison."""
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        path = make_tiny(Path(folder))
        widened(path)
        model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        lm = Transformers(str(path), dtype="float32")
        print("| what | transformers, one by one | this backend | ratio |\n|---|---|---|---|")
        row("score 300 one-demonstration prompts", lambda: scored_plainly(model, tokenizer), lambda: scored(lm))
        row("score 32 labels after a long context", lambda: labels_plainly(model, tokenizer), lambda: labels(lm))
        row("8 samples of 64 tokens of 1 prompt", lambda: sampled_plainly(model, tokenizer, 1), lambda: sampled(lm, 1))
        row("the same for 16 prompts", lambda: sampled_plainly(model, tokenizer, 16), lambda: sampled(lm, 16))
        asyncio.run(lm.aclose())


def widened(folder: Path) -> None:
    """Replace the model in the folder by a larger one of the same tokenizer."""
    config = LlamaConfig.from_pretrained(folder)
    config.update({"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 8})
    config.update({"num_key_value_heads": 4, "head_dim": 32, "vocab_size": 8000})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


def row(what: str, plain: Callable[[], Any], ours: Callable[[], Any]) -> None:
    """Measure both in turns, and print."""
    plain(), ours()  # warm up
    times = [(timed(plain), timed(ours)) for _ in range(3)]
    one, other = median(t for t, _ in times), median(t for _, t in times)
    print(f"| {what} | {one:.2f} s | {other:.2f} s | {one / other:.1f} |", flush=True)


def timed(work: Callable[[], Any]) -> float:
    """Seconds it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def filled(i: int) -> dict[str, int]:
    """Numbers for the i-th question."""
    return {"a": 7 + i, "b": 2 + i % 5, "c": 3 + i % 11, "d": 1 + i % 4}


def demonstration(i: int) -> tuple[str, str]:
    """One demonstration and a query, and the answer to be scored."""
    demo = (QUESTION + ANSWER).format(**filled(i))
    return f"{demo}\n\n{QUESTION.format(**filled(i + 1))}", ANSWER.format(**filled(i + 1))


def scored(lm: Transformers) -> None:
    """EPR's work: how much each demonstration helps with the answer."""
    asyncio.run(gather(lambda i: lm.score(demonstration(i)[0], [demonstration(i)[1]]), range(300)))


@torch.inference_mode()
def scored_plainly(model: Any, tokenizer: Any) -> None:
    """The same, one forward pass each."""
    for i in range(300):
        forward(model, tokenizer, *demonstration(i))


LONG = "\n\n".join((QUESTION + ANSWER).format(**filled(i)) for i in range(16)) + "\n\nQ: Which kind is it?\nA:"
LABELS = [f" the kind number {i}" for i in range(32)]


def labels(lm: Transformers) -> None:
    """Classification by scores."""
    asyncio.run(lm.score(LONG, LABELS))


@torch.inference_mode()
def labels_plainly(model: Any, tokenizer: Any) -> None:
    """The same, one forward pass for each label."""
    for label in LABELS:
        forward(model, tokenizer, LONG, label)


def forward(model: Any, tokenizer: Any, prompt: str, continuation: str) -> list[float]:
    """Log-probabilities of the continuation's tokens."""
    context, target = split(tokenizer, prompt, continuation)
    logits = model(torch.tensor([[*context.ids, *target]])).logits[0, len(context) - 1 : -1]
    chances = logits.log_softmax(-1)[range(len(target)), target]
    return [float(chance) for chance in chances]


def sampled(lm: Transformers, prompts: int) -> None:
    """Self-consistency's work."""
    requests = [
        Request(demonstration(i)[0], n=8, temperature=0.7, top_k=40, max_tokens=64, seed=i) for i in range(prompts)
    ]
    asyncio.run(gather(lm.generate, requests))


def sampled_plainly(model: Any, tokenizer: Any, prompts: int) -> None:
    """The same by transformers' own `generate`."""
    for i in range(prompts):
        ids = tokenizer(demonstration(i)[0], return_tensors="pt")
        sampling = {"do_sample": True, "temperature": 0.7, "top_k": 40, "max_new_tokens": 64}
        model.generate(**ids, num_return_sequences=8, pad_token_id=tokenizer.pad_token_id, **sampling)


if __name__ == "__main__":
    main()
