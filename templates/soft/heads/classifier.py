"""A prefix and the classifier that was trained with it, as a value that is saved and that classifies.

Dimensions: N examples, H hidden, C labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from templates.errors import DataError, UserError
from templates.soft.folder import json_of, replaced, tensors_in, write_json
from templates.soft.prompt import Array, Prefix, kept
from templates.soft.rows import Labelled
from templates.template import Template

WEIGHTS, NOTES = "head.safetensors", "icl_classifier.json"


@dataclass(frozen=True, eq=False)
class Classifier:
    """The label of a text is argmax_c of weights_c · h + bias_c, h the model's hidden state of it behind the prefix.

    Args:
        prefix: keys and values before the text.
        weights: [C, H].
        bias: [C].
        labels: C of them.
        made: how it came about.
    """

    prefix: Prefix
    weights: Array
    bias: Array
    labels: tuple[str, ...]
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a classifier of other labels, of another model, or of numbers that are none."""
        object.__setattr__(self, "weights", kept(self.weights))
        object.__setattr__(self, "bias", kept(self.bias))
        wanted = (len(self.labels), self.prefix.base.hidden)
        if self.weights.shape != wanted or self.bias.shape != wanted[:1]:
            raise UserError(
                f"a classifier of {wanted[0]} labels for {self.prefix.base.name!r} has weights {list(wanted)} and bias "
                f"[{wanted[0]}], got {list(self.weights.shape)} and {list(self.bias.shape)}"
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise UserError(f"a classifier holds finite numbers, and those for {self.prefix.base.name!r} are not all")

    def classify(
        self, model: Any, tokenizer: Any, examples: Sequence[Labelled], template: Template, batch: int = 32
    ) -> list[str]:
        """The examples' labels.

        Raises:
            UserError: another model than the one it was trained for.
        """
        found = self.logprobs(model, tokenizer, examples, template, batch)
        return [self.labels[place] for place in found.argmax(1)]

    def logprobs(
        self, model: Any, tokenizer: Any, examples: Sequence[Labelled], template: Template, batch: int = 32
    ) -> Array:
        """Log-probabilities of the labels, [N, C]; see `classify`."""
        import torch

        from templates.soft.heads.headed import Parts, headed, logprobs

        frozen = headed(model, tokenizer, len(self.prefix), len(self.labels))
        self.prefix.base.check(frozen.base)
        rows = [frozen.row_for(template, example, 0) for example in examples]
        if not rows:
            return np.zeros((0, len(self.labels)), np.float32)
        parts = Parts(*(torch.tensor(part) for part in (self.prefix.vectors, self.weights, self.bias)))
        with frozen.held(), torch.no_grad():
            found: Array = logprobs(frozen, rows, parts.joined.to(frozen.device), batch).numpy()
        return found

    def save(self, path: str | Path) -> Path:
        """Write it as a folder: the prefix in PEFT's format, beside it the classifier as safetensors and JSON."""
        from safetensors.numpy import save_file

        with replaced(Path(path)) as new:
            self.prefix.save(new)
            save_file({"weights": self.weights, "bias": self.bias}, new / WEIGHTS)
            write_json(new / NOTES, {"labels": list(self.labels), "made": dict(self.made)})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, base: str | None = None) -> "Classifier":
        """What `save` wrote.

        Args:
            path: the folder.
            base: see `Trained.load`.
        Raises:
            DataError: no such folder, or not a classifier's.
        """
        prefix, notes = Prefix.load(path, base), json_of(Path(path) / NOTES)
        labels, made = notes.get("labels"), notes.get("made")
        if not (isinstance(labels, list) and all(isinstance(one, str) for one in labels) and isinstance(made, dict)):
            raise DataError(
                f"{Path(path) / NOTES} has labels {labels!r} and made {made!r}; a classifier's are a list of texts and "
                "an object: train it again"
            )
        tensors = tensors_in(Path(path) / WEIGHTS)
        try:
            return cls(prefix, tensors["weights"], tensors["bias"], tuple(labels), made)
        except KeyError as error:
            raise DataError(f"{Path(path) / WEIGHTS} is not a classifier's ({error!r}); train it again") from error
