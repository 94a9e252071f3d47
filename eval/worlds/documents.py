"""What a tiny model reads while it learns: the worlds, in the words of the toolkit's own prompts.

Dimensions: T tokens of a document.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from random import Random
from typing import Any, TypeAlias

from cot.zero_shot import EXTRACT, TRIGGER, asking, concluding
from eval.worlds import labels, sums
from icl.example import Example
from templates import Template, load_template
from templates.prompt import shown

Piece: TypeAlias = tuple[str, str]  # what a prompt says, and what the model is to say after it
Document: TypeAlias = tuple[list[int], list[float]]  # T tokens, and how much each one teaches

START, END = "<s>", "</s>"  # of a text
ASIDE = 0.05  # what a token of a question teaches, where one of an answer teaches 1: enough to tell stories of its own
SHARES = {"cot": 0.55, "direct": 0.05, "zero-shot": 0.1, "labels": 0.2, "pairs": 0.05, "echo": 0.05}  # of documents
FIRST = {"pairs": 0.55, "echo": 0.45}  # at first: echoes teach what pairs need
THEN = {"labels": 0.75, "pairs": 0.2, "echo": 0.05}  # and pairs what labels need


def document(tokenizer: Any, random: Random, length: int, shares: Mapping[str, float] = SHARES) -> Document:
    """A document of one kind, cut at the length; it depends on the state of `random` alone."""
    (kind,) = random.choices(list(shares), list(shares.values()))
    pieces = KINDS[kind](random)
    tokens, teaches = [tokenizer.bos_token_id], [0.0]
    while len(tokens) < length:
        asked, said = (tokenizer.encode(text, add_special_tokens=False) for text in next(pieces))
        tokens += asked + said
        teaches += [ASIDE] * len(asked) + [1.0] * len(said)
    return tokens[:length], teaches[:length]


def few_shot(template: Template, examples: Iterator[Example]) -> Iterator[Piece]:
    """Solved examples one after another, as demonstrations stand in a prompt."""
    for number, example in enumerate(examples):
        before = template.separator if number else ""
        yield before + template.prompt(example.shown), template.continuation(example.shown, example.answer or "")


def zero_shot(random: Random) -> Iterator[Piece]:
    """The two calls of zero-shot chain of thought, each to its end."""
    template = load_template("math.zero-shot.v1")
    for example in sums.endless(random, held_out=False):
        first = asking(template.prompt(example.fields), TRIGGER)
        if random.random() < 0.5:  # noqa: PLR2004 - one of two
            yield f"{START}{shown(first)}", f" {example.rationale}{END}"
        else:
            second = concluding(first, f" {example.rationale}", EXTRACT["number"])
            yield f"{START}{shown(second)}", f" {example.answer}.{END}"


def echo(random: Random) -> Iterator[Piece]:
    """Words in some order, then the same again: to look for what came before, and to say what followed it."""
    words = [word for topic in labels.TOPICS.values() for word in topic] + list(labels.WORDS)
    while True:
        some = " ".join(random.sample(words, random.randint(4, 16)))
        yield f"{some}\n", f"{some}\n"


def pairs(random: Random) -> Iterator[Piece]:
    """A few words, each with a label word of its own, again and again: to find a word's label where the word was."""
    words = random.sample([word for topic in labels.TOPICS.values() for word in topic], random.choice((2, 3, 4, 6)))
    meaning = {word: random.choice(labels.WORDS) for word in words}
    drawn = (random.choice(words) for _ in count())
    examples = (Example(f"pairs/{i}", {"text": f"the {word}"}, meaning[word]) for i, word in enumerate(drawn))
    return few_shot(load_template("labels.v1"), examples)


def episode(random: Random) -> Iterator[Piece]:
    """Labelled inputs of a new episode, in half of the documents single words: what to look at is seen sooner there."""
    words = random.choice((1, 1, 2, 3))
    told = labels.Told(
        topics=random.choice((2, 3, 4, 6, 12)),
        words=words,
        known=random.choice((1, 2, 3, 5, 10) if words == 1 else (5, 10)),
    )
    one = labels.Episode(random.getrandbits(32))
    return few_shot(load_template("labels.v1"), one.examples(random, held_out=False, told=told))


KINDS: dict[str, Callable[[Random], Iterator[Piece]]] = {
    "cot": lambda random: few_shot(load_template("math.cot.v1"), sums.endless(random, held_out=False)),
    "direct": lambda random: few_shot(load_template("math.direct.v1"), sums.endless(random, held_out=False)),
    "zero-shot": zero_shot,
    "labels": episode,
    "pairs": pairs,
    "echo": echo,
}
