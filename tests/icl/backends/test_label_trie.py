from hypothesis import given
from hypothesis import strategies as st

from icl.backends.label_trie import MOST_FOLLOWING, Node, cheaper_than_prompts, scores_from, trie


def test_common_beginnings_are_shared() -> None:
    """The labels "very good" and "very bad" share their first token; "good" is alone: two nodes."""
    assert trie([(1, 2), (1, 3), (2,)]) == [Node((), (1, 2)), Node((1,), (2, 3))]


def test_many_followers_are_cut_to_what_one_request_may_score() -> None:
    """200 one-token labels make two nodes of 128 and 72."""
    assert [len(node.following) for node in trie([(i,) for i in range(200)])] == [MOST_FOLLOWING, 72]


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5).map(tuple), min_size=1, max_size=8, unique=True))
def test_scores_are_put_together_from_the_nodes(targets: list[tuple[int, ...]]) -> None:
    """Each target's scores are those of its own tokens after its own beginnings."""
    nodes = trie(targets)
    values = [{token: -float(10 * len(node.prefix) + token) for token in node.following} for node in nodes]
    scores = scores_from(targets, nodes, values)
    assert [s.logprobs for s in scores] == [
        tuple(-float(10 * i + t) for i, t in enumerate(target)) for target in targets
    ]


def test_long_texts_go_as_prompts_and_labels_by_the_trie() -> None:
    """Two 100-token answers after 50 tokens: two prompts; 32 labels after 900 tokens: the trie."""
    long = [tuple(range(100)), tuple(range(100, 200))]
    assert not cheaper_than_prompts(50, long, trie(long))
    labels = [(i,) for i in range(32)]
    assert cheaper_than_prompts(900, labels, trie(labels))
