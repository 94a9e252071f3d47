"""What a folder of something trained holds, as it is listed: prompts, mixtures, classifiers, adapters, tuned models."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.config import explained
from templates.errors import DataError
from templates.soft import Base, Mixture, Trained
from templates.soft.baselines.folder import read_notes
from templates.soft.folder import CONFIG, MIXTURE, TUNED, json_of
from templates.soft.gated.value import KIND, GatedPrompt
from templates.soft.heads.classifier import NOTES as CLASSIFIER
from templates.soft.heads.classifier import Classifier


class Worth(BaseModel):
    """How good it is on the dev set."""

    model_config = ConfigDict(strict=True)

    score: float
    loss: float


class Shown(BaseModel):
    """What a table says of how something was made; notes come from files, and have more."""

    model_config = ConfigDict(strict=True)

    method: str = ""
    data: str = ""
    examples: int = 0
    settings: dict[str, Any] = Field(default_factory=dict)
    dev: Worth | None = None
    dev_examples: int = 0
    weights: int = 0
    share: float | None = Field(default=None, gt=0, allow_inf_nan=False)


@dataclass(frozen=True)
class Listed:
    """What a folder holds.

    Args:
        path: the folder.
        kind: SoftPrompt, Prefix, Mixture, Classifier, GatedPrompt, adapter, model or probe.
        base: the model that it is for, or was made of.
        made: how.
        weights: how many were trained.
        own: what is said of its kind alone.
        model: the folder that any backend takes for a model, where there is one.
    """

    path: Path
    kind: str
    base: Base
    made: Mapping[str, Any]
    weights: int
    own: Mapping[str, Any]
    model: Path | None = None

    @cached_property
    def shown(self) -> Shown:
        """Of `made`, what a table says.

        Raises:
            DataError: it is not what a training writes; says what is wrong.
        """
        try:
            return Shown.model_validate(dict(self.made))
        except ValidationError as error:
            raise DataError(
                f"{self.path} has notes that no training writes: {explained(error)}; make it anew"
            ) from error

    def described(self) -> dict[str, Any]:
        """What there is to know of it, for machines."""
        first = {"path": str(self.path), "kind": self.kind, "weights": self.weights, **self.own}
        whole = {"model": str(self.model)} if self.model else {}
        return {**first, **whole, "base": vars(self.base), "made": dict(self.made)}


def in_folder(path: Path) -> Listed:
    """What the folder holds.

    Raises:
        DataError: a file is missing, or is not what it should be; says what is wrong with it.
        UserError: what it holds cannot be.
    """
    found = _tuned(path) if (path / TUNED).is_file() else _prompt(path)
    _ = found.shown  # refuses what cannot be shown
    return found


def _tuned(path: Path) -> Listed:
    notes = read_notes(path)
    return Listed(path, notes.kind, notes.base, notes.made, notes.made.get("weights", 0), {}, notes.model_in(path))


def _prompt(path: Path) -> Listed:
    if (path / MIXTURE).is_file():
        mixture = Mixture.load(path)
        weights = sum(one.vectors.size for one in mixture.prompts) + len(mixture)
        own = {"prompts": len(mixture), "tokens": sum(map(len, mixture.prompts)), "shares": list(mixture.weights)}
        base = mixture.prompts[0].base
        return Listed(path, Mixture.__name__, base, mixture.made, weights, {**own, "digest": mixture.digest})
    if (path / CLASSIFIER).is_file():
        one = Classifier.load(path)
        weights = one.prefix.vectors.size + one.weights.size + one.bias.size
        own = {"tokens": len(one.prefix), "labels": list(one.labels)}
        return Listed(path, Classifier.__name__, one.prefix.base, one.made, weights, own)
    if json_of(path / CONFIG).get("peft_type") == KIND:
        gated = GatedPrompt.load(path)
        own = {"tokens": len(gated), "layers": len(gated.prompts), "digest": gated.digest}
        return Listed(path, GatedPrompt.__name__, gated.base, gated.made, gated.prompts.size + gated.gates.size, own)
    prompt = Trained.load(path)
    own = {"tokens": len(prompt), "digest": prompt.digest}
    return Listed(path, type(prompt).__name__, prompt.base, prompt.made, prompt.vectors.size, own)
