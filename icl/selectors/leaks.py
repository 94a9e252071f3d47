"""The leak guard: no query is shown its own example as a demonstration.

An example is the query's own when it has the query's id or the query's question. Questions are compared by `key`:
runs of white space count as one space, none at the ends, and case does not matter.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from icl.example import Demo, Example
from templates.errors import NotEnoughDemos, NotFitted, UserError

T = TypeVar("T")
Rows = NDArray[np.intp]


def key(question: str) -> str:
    r"""What two questions have in common that are the same question.

    >>> key("  What is\n 9 * 2?") == key("what is 9 * 2? ")
    True
    """
    return " ".join(question.split()).casefold()


class Pool:
    """N examples to choose from, and which of them a query must not see.

    An example that is listed twice (same id, same question) counts once.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        distinct: dict[tuple[str, str], Example] = {}
        for example in examples:
            distinct.setdefault((example.id, key(example.question)), example)
        self.examples = tuple(distinct.values())
        self._by_id: dict[str, list[int]] = {}
        self._by_key: dict[str, list[int]] = {}
        for row, (name, question) in enumerate(distinct):
            self._by_id.setdefault(name, []).append(row)
            self._by_key.setdefault(question, []).append(row)

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def questions(self) -> list[str]:
        """The N questions: all that a selector may compare with a query, for the query has no answer."""
        return [example.question for example in self.examples]

    def own(self, query: Example) -> Rows:
        """The rows that hold the query itself, by id or by question; ascending, usually none."""
        rows = {*self._by_id.get(query.id, ()), *self._by_key.get(key(query.question), ())}
        return np.array(sorted(rows), dtype=np.intp)

    def barred(self, queries: Sequence[Example], k: int) -> list[Rows]:
        """For each of the Q queries the rows it must not see, once it is known that k others are left for each.

        Raises:
            NotEnoughDemos: k others are not left.
        """
        if k < 0:
            raise UserError(f"asked for k={k} demonstrations; k is 0 or more")
        barred = [self.own(query) for query in queries]
        for query, own in zip(queries, barred, strict=True):
            if k > (left := len(self) - len(own)):
                raise NotEnoughDemos(
                    f"asked for k={k} demonstrations for query {query.id!r} from a pool of {len(self)} examples, of "
                    f"which {len(own)} are the query itself: {left} are left; lower k or add examples"
                )
        return barred

    def demos(self, rows: Rows, scores: NDArray[np.floating] | None = None) -> list[Demo]:
        """The examples in these rows [k] as demonstrations with their scores [k], by default 0."""
        values = [0.0] * len(rows) if scores is None else scores.tolist()
        return [Demo(self.examples[row], score) for row, score in zip(rows.tolist(), values, strict=True)]


def leaked(pool: Sequence[Example], queries: Sequence[Example]) -> list[str]:
    """The ids of the queries that have their own example, by id or by question, in the pool."""
    ids, keys = {example.id for example in pool}, {key(example.question) for example in pool}
    return [query.id for query in queries if query.id in ids or key(query.question) in keys]


def fitted(state: T | None, selector: object) -> T:
    """What `fit` left in the selector.

    Raises:
        NotFitted: it left nothing yet.
    """
    if state is None:
        raise NotFitted(
            f"{type(selector).__name__} was asked for demonstrations before it had its pool; call fit first"
        )
    return state
