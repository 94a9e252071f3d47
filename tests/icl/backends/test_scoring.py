from icl.backends.batching import Size
from icl.backends.scoring import Line, Scoring
from templates.tokens import Encoded

# Context 7 8, continuations 1 2 3, 4 and 5 6. What is run: 7 8 | 1 2 | | 5.
LINE = Line(Encoded((7, 8)), [[1, 2, 3], [4], [5, 6]])


def test_the_last_token_of_a_continuation_is_not_run() -> None:
    """Nothing follows it, so nothing is predicted from it; a one-token continuation is not run at all."""
    assert LINE.tokens == [7, 8, 1, 2, 5]
    assert LINE.packed == 3


def test_every_continuation_begins_right_after_the_context() -> None:
    """1 and 5 both stand at position 2, and belong to the continuations 0 and 2."""
    assert LINE.positions == [0, 1, 2, 3, 2]
    assert LINE.blocks == [-1, -1, 0, 0, 2]


def test_each_token_is_predicted_where_the_one_before_it_stands() -> None:
    """First tokens from the context's end, which is four from the end of the row; the others one after another."""
    assert LINE.targets() == [(-4, 1), (-3, 2), (-2, 3), (-4, 4), (-4, 5), (-1, 6)]


def test_packed_continuations_share_one_row() -> None:
    """Packed, one row of 2 + 3 tokens; otherwise three rows, the longest of 2 + 2."""
    packed = Scoring(LINE.context, LINE.continuations, packed=True)
    alone = Scoring(LINE.context, LINE.continuations, packed=False)
    assert packed.size(range(3)) == Size(prompt=5, rows=1, new=0, outputs=4, prompts=1)
    assert alone.size(range(3)) == Size(prompt=4, rows=3, new=0, outputs=3, prompts=3)
