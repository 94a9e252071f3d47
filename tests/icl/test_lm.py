import pytest

from icl.lm import Completion, Request, Score, Usage
from templates.errors import UserError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("stop", ("",)),
    ],
)
def test_a_request_refuses_what_no_engine_can_do(field: str, value: object) -> None:
    """The bad value is in the message."""
    with pytest.raises(UserError, match=r"n=0|max_tokens=0|temperature=-0.1|top_p=0.0|top_p=1.1|top_k=-1|empty stop"):
        Request("a", **{field: value})  # type: ignore[arg-type]


def test_a_prompt_counts_once_however_many_samples() -> None:
    """Three samples of a 100-token prompt with 5, 6 and 7 tokens: 100 and 18."""
    samples = [Completion("x", prompt_tokens=100, tokens=n) for n in (5, 6, 7)]
    assert Usage.of(samples) == Usage(calls=1, prompt_tokens=100, completion_tokens=18)
    assert Usage.of(samples) + Usage.of(samples[:1]) == Usage(2, 200, 23)


def test_score_sum_and_mean() -> None:
    """log(½) + log(¼) = -2.0794, half of it per token."""
    score = Score((-0.6931, -1.3863))
    assert score.sum == pytest.approx(-2.0794)
    assert score.mean == pytest.approx(-1.0397)
