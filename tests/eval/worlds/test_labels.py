from collections import Counter
from itertools import islice
from random import Random

from eval.worlds.labels import LABELS, TOPICS, WORDS, Episode, Told, inputs, split


def test_an_episode_shares_the_topics_out_evenly() -> None:
    """Each of four label words stands for three topics, so that chance is one in four."""
    for seed in range(20):
        shares = Counter(Episode(seed).meaning.values())
        assert set(shares.values()) == {len(TOPICS) // LABELS}
        assert set(shares) <= set(WORDS)


def test_another_episode_means_something_else() -> None:
    """What a label word stands for cannot be learnt by heart: a topic has every word in some episode."""
    found = {topic: {Episode(seed).meaning[topic] for seed in range(300)} for topic in TOPICS}
    assert all(words == set(WORDS) for words in found.values())


def test_an_input_s_words_are_its_topic_s() -> None:
    """At least three words of the topic and at most one of another; no word belongs to two topics."""
    owner = {word: topic for topic, words in TOPICS.items() for word in words}
    assert len(owner) == sum(map(len, TOPICS.values()))
    for topic, text in islice(inputs(Random(0), held_out=False, told=Told()), 300):
        topics = Counter(owner[word] for word in text.replace(",", "").split() if word in owner)
        assert topics.pop(topic) == 3
        assert sum(topics.values()) <= 1


def test_no_input_of_one_split_is_in_the_other() -> None:
    """Not even with its words in another order or frame."""
    sides = [{e.question for e in split(0, 1500, held_out=side)} for side in (True, False)]
    assert not sides[0] & sides[1]
    topical = set().union(*TOPICS.values())
    bags = [{frozenset(text.replace(",", "").split()) & topical for text in side} for side in sides]
    plain = [{bag for bag in side if len(bag) == 3} for side in bags]
    assert plain[0]
    assert not plain[0] & plain[1]


def test_fewer_topics() -> None:
    """Inputs on three topics are on three topics."""
    assert len({topic for topic, _ in islice(inputs(Random(0), held_out=False, told=Told(topics=3)), 200)}) == 3
