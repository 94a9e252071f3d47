"""A mixture of soft prompts: what each of them says, weighed (Qin & Eisner 2021, arXiv:2104.06599, section 3.4).

Dimensions: J prompts, L labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from templates.errors import DataError, UserError
from templates.soft.folder import MIXTURE, json_of, replaced, write, write_json
from templates.soft.prompt import SoftPrompt

Array = npt.NDArray[np.float64]

_SUM = 1e-6  # off one by so much weights may be


@dataclass(frozen=True, eq=False)
class Mixture:
    """Prompts and their weights: p(y|x) = Σ_j w_j p(y|prompt_j, x). Two are equal when their numbers are.

    Args:
        prompts: J of them, for one model.
        weights: w [J], none below zero, of sum one.
        made: how it was made; for people.
    """

    prompts: Sequence[SoftPrompt]
    weights: Sequence[float]
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse weights that are no distribution over the prompts, and prompts for several models."""
        object.__setattr__(self, "prompts", tuple(self.prompts))
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        if not self.prompts or len(self.prompts) != len(self.weights):
            raise UserError(f"a mixture has a weight for each prompt, got {len(self.prompts)} and {len(self.weights)}")
        if not min(self.weights) >= 0 or not abs(sum(self.weights) - 1) <= _SUM:
            raise UserError(f"a mixture's weights are none below zero and of sum one, got {list(self.weights)}")
        if len(bases := {prompt.base for prompt in self.prompts}) > 1:
            raise UserError(f"a mixture's prompts are for one model, got {sorted(base.name for base in bases)}")

    @cached_property
    def digest(self) -> str:
        """Of all prompts and weights."""
        said = repr([(prompt.digest, weight) for prompt, weight in zip(self.prompts, self.weights, strict=True)])
        return blake2b(said.encode(), digest_size=8).hexdigest()

    def __len__(self) -> int:
        """How many prompts, J."""
        return len(self.prompts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mixture) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def save(self, path: str | Path) -> Path:
        """Write a folder: each prompt in PEFT's format in a folder of its own, the weights as JSON.

        What was there is replaced when the new one is whole.

        Raises:
            StorageError: disk full, no permission; what was there is untouched.
        """
        with replaced(Path(path)) as new:
            for number, prompt in enumerate(self.prompts):
                write(prompt, new / str(number))
            write_json(new / MIXTURE, {"weights": list(self.weights), "made": dict(self.made)})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, base: str | None = None) -> "Mixture":
        """What `save` wrote.

        Args:
            path: the folder.
            base: see `Trained.load`.
        Raises:
            DataError: no such folder, or not a mixture's; says what is wrong with it.
        """
        file = Path(path) / MIXTURE
        if not file.is_file():
            raise DataError(
                f"{path} has no {MIXTURE}, so it is not a mixture's folder; a single prompt is a SoftPrompt's"
            )
        said = json_of(file)
        weights, made = said.get("weights"), said.get("made", {})
        if not isinstance(weights, list) or not all(type(one) in {int, float} for one in weights):
            raise DataError(f"{file} has weights {weights!r}; a mixture's are a list of numbers, one for each prompt")
        if not isinstance(made, dict):
            raise DataError(f"{file} has made {made!r}; it is an object")
        prompts = [SoftPrompt.load(Path(path) / str(number), base) for number in range(len(weights))]
        try:
            return cls(prompts, weights, made)
        except (UserError, OverflowError) as error:  # a whole number in JSON has any size
            raise DataError(f"{path} is not a mixture: {error}") from error


def mixed(scores: Array, weights: Sequence[float]) -> Array:
    """What all prompts say together: log Σ_j w_j exp(score_j), […].

    >>> mixed(np.log([[0.8, 0.2], [0.4, 0.6]]), [0.75, 0.25]).round(4).tolist() == np.log([0.7, 0.3]).round(4).tolist()
    True

    Args:
        scores: [J, …], log-probabilities.
        weights: w, [J]; a prompt of weight zero does not count.
    """
    shaped = np.asarray(weights, dtype=np.float64).reshape(-1, *[1] * (np.ndim(scores) - 1))
    with np.errstate(divide="ignore"):
        found: Array = np.logaddexp.reduce(np.log(shaped) + scores, axis=0)
    return found
