import numpy as np
import pytest
import torch

from icl.backends.sampling import drawn, filtered

HALVES = [0.5, 0.25, 0.15, 0.1]


def kept(chances: list[float], temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> list[float]:
    """The probabilities that are sampled, of one row."""
    sampled = filtered(torch.tensor([chances]).log(), temperature, top_k, top_p).softmax(-1)[0]
    return [round(chance, 4) for chance in sampled.tolist()]


def test_without_filters_nothing_changes() -> None:
    """Temperature 1, no top-k and top-p 1 are the model's own distribution."""
    assert kept(HALVES) == HALVES


def test_temperature_comes_first() -> None:
    """At temperature 1/2 chances are squared: 0.8 and 0.2 become 0.64/0.68 and 0.04/0.68, and top-p sees those."""
    assert kept([0.8, 0.2], temperature=0.5) == [0.9412, 0.0588]
    assert kept([0.8, 0.2], temperature=0.5, top_p=0.9) == [1.0, 0.0]
    assert kept([0.8, 0.2], top_p=0.9) == [0.8, 0.2]


def test_top_k_keeps_the_most_likely() -> None:
    """Two of four are kept, at 0.5/0.75 and 0.25/0.75; a k beyond the vocabulary keeps all."""
    assert kept(HALVES, top_k=2) == [0.6667, 0.3333, 0.0, 0.0]
    assert kept(HALVES, top_k=9) == HALVES


def test_top_k_keeps_ties() -> None:
    """Two tokens are as likely as the second, so k=2 keeps three."""
    assert kept([0.5, 0.2, 0.2, 0.1], top_k=2) == [0.5556, 0.2222, 0.2222, 0.0]


def test_top_p_keeps_the_token_that_reaches_p() -> None:
    """p=0.6 needs 0.5 and 0.25; p=0.4 is reached by the first alone."""
    assert kept(HALVES, top_p=0.6) == [0.6667, 0.3333, 0.0, 0.0]
    assert kept(HALVES, top_p=0.4) == [1.0, 0.0, 0.0, 0.0]


def test_top_p_sees_what_top_k_left() -> None:
    """After k=2 the first has 2/3, which reaches p=0.6; before, its 1/2 would not."""
    assert kept(HALVES, top_k=2, top_p=0.6) == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.499, 0), (0.501, 2), (0.749, 2), (0.751, 3), (0.999999, 3)]
)
def test_a_token_is_drawn_by_the_inverse_of_the_cumulative_distribution(uniform: float, token: int) -> None:
    """Chances 0.5, 0, 0.25, 0.25: numbers below 0.5 draw the first, below 0.75 the third; never the second."""
    logits = torch.tensor([[0.5, 0.0, 0.25, 0.25]]).log()
    assert drawn(logits, np.array([uniform])).tolist() == [token]


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    """Of 10,000 evenly spread numbers half draw the first token, a quarter the second, and so on."""
    logits = torch.tensor([HALVES]).log().expand(10_000, -1)
    tokens = drawn(logits, (np.arange(10_000) + 0.5) / 10_000)
    assert tokens.bincount().tolist() == pytest.approx([5000, 2500, 1500, 1000], abs=1)
