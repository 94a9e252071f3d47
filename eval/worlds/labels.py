"""Classification whose label words mean something else in every episode: only demonstrations tell what.

An input is a line about one topic, half of the time with a word from another. An episode gives each topic one of a few
label words. So a demonstration on the query's topic tells its label, and one on another topic tells next to nothing:
near demonstrations help, far ones do not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from eval.worlds.distinct import distinct
from icl.example import Example
from templates.errors import UserError

LABELS = 4  # label words of an episode: chance is one in so many
HELD_OUT = 8  # one set of words in so many is never learnt from
STRAY = 0.5  # share of the inputs with a word from another topic

WORDS = (
    "dax",
    "wug",
    "blick",
    "fep",
    "toma",
    "zorp",
    "kiki",
    "lorp",
    "mib",
    "gazzer",
    "pim",
    "tulver",
    "rond",
    "snerg",
)
TOPICS: Mapping[str, tuple[str, ...]] = {
    "kitchen": ("pan", "oven", "spoon", "kettle", "plate", "fork", "stove", "pot", "bowl", "knife"),
    "sea": ("wave", "shark", "coral", "sailor", "tide", "harbour", "whale", "anchor", "reef", "squid"),
    "music": ("violin", "drum", "flute", "singer", "piano", "guitar", "choir", "trumpet", "melody", "concert"),
    "weather": ("rain", "storm", "cloud", "thunder", "fog", "snow", "hail", "wind", "frost", "lightning"),
    "school": ("teacher", "pupil", "classroom", "homework", "pencil", "lesson", "exam", "desk", "chalk", "notebook"),
    "garden": ("rose", "tulip", "spade", "hedge", "lawn", "weed", "seed", "shrub", "daisy", "compost"),
    "medicine": ("doctor", "nurse", "pill", "hospital", "fever", "bandage", "surgeon", "vaccine", "patient", "clinic"),
    "space": ("planet", "comet", "rocket", "moon", "orbit", "galaxy", "astronaut", "star", "meteor", "telescope"),
    "money": ("bank", "loan", "wallet", "cash", "invoice", "salary", "tax", "budget", "cheque", "profit"),
    "farm": ("cow", "sheep", "barn", "tractor", "pig", "hay", "goat", "plough", "hen", "stable"),
    "sport": ("football", "goal", "referee", "racket", "stadium", "coach", "tennis", "medal", "swimmer", "match"),
    "clothes": ("shirt", "coat", "sock", "button", "jacket", "scarf", "glove", "trousers", "skirt", "hat"),
}
TOPIC_NAMES = tuple(TOPICS)
FRAMES = (
    "the {0}, the {1} and the {2}",
    "some {0} with the {1} and some {2}",
    "one {0}, one {1}, one {2}",
    "about the {0}, this {1} and some {2}",
    "{0} and {1}, then {2}",
)
STRAY_FRAMES = ("not the {3} but {line}", "near some {3}, {line}", "after the {3}, {line}")


@dataclass(frozen=True)
class Told:
    """What inputs are made of; training also reads simpler ones than those that are asked.

    Args:
        topics: how many come up.
        words: of its topic in each input; with fewer than three the input is a list of them.
        known: words of each topic that come up at all.
    """

    topics: int = len(TOPICS)
    words: int = 3
    known: int = 10


@dataclass(frozen=True)
class Episode:
    """Which label word stands for which topic, drawn from a seed; every label word stands for as many topics."""

    seed: int

    @property
    def meaning(self) -> dict[str, str]:
        """Topic to label word."""
        random = Random(self.seed)
        words = random.sample(WORDS, LABELS) * (len(TOPICS) // LABELS)
        return dict(zip(random.sample(list(TOPICS), len(TOPICS)), words, strict=True))

    def examples(self, random: Random, *, held_out: bool, told: Told | None = None) -> Iterator[Example]:
        """Labelled inputs of one of the two splits, one after another."""
        meaning, side = self.meaning, "held-out" if held_out else "train"
        for number, (topic, text) in enumerate(inputs(random, held_out=held_out, told=told or Told())):
            yield Example(f"labels/{self.seed}/{side}/{number}", {"text": text}, meaning[topic])


def inputs(random: Random, *, held_out: bool, told: Told) -> Iterator[tuple[str, str]]:
    """Topics and texts, one after another; only lines of three words are held out, so only such can be asked."""
    if held_out and told.words != 3:  # noqa: PLR2004 - frames have three places
        raise UserError(f"held-out inputs have three words of their topic, not {told.words}")
    known = {topic: random.sample(TOPICS[topic], told.known) for topic in random.sample(TOPIC_NAMES, told.topics)}
    while True:
        topic = random.choice(list(known))
        words = random.sample(known[topic], told.words)
        if told.words < 3:  # noqa: PLR2004 - frames have three places
            yield topic, f"the {' and the '.join(words)}"
        elif is_held_out(words) == held_out:
            line = random.choice(FRAMES).format(*words)
            if random.random() < STRAY:
                other = random.choice([name for name in TOPIC_NAMES if name != topic])
                line = random.choice(STRAY_FRAMES).format(*words, random.choice(TOPICS[other]), line=line)
            yield topic, line


def is_held_out(words: Sequence[str]) -> bool:
    """Whether a topic's words are only asked about together, never learnt from, in whatever order and frame."""
    return blake2b(" ".join(sorted(words)).encode(), digest_size=4).digest()[0] % HELD_OUT == 0


def split(seed: int, size: int, *, held_out: bool) -> Sequence[Example]:
    """So many examples of the seed's episode, no two with the same text."""
    return distinct(Episode(seed).examples(Random(f"{seed}/{held_out}"), held_out=held_out), size)
