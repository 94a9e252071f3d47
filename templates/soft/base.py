"""The frozen model that a trained prompt belongs to."""

from dataclasses import dataclass
from typing import Any

from templates.errors import UserError
from templates.identity import weights_identity


@dataclass(frozen=True)
class Base:
    """Which model, and of what shape; 0 stands for what nobody knows, as of prompts that were made elsewhere.

    Args:
        name: a hub name or a folder.
        hidden: width of its embeddings.
        layers: of its decoder; of its encoder where it has one.
        heads: of attention.
        kv_heads: heads of keys and values.
        head_size: width of a head.
        weights: a digest of its weights, or "@" and the commit of a model on the hub; empty where nobody knows.
        task: what it does, as PEFT calls it: CAUSAL_LM, SEQ_2_SEQ_LM for an encoder with a decoder, FEATURE_EXTRACTION
            for a masked language model, which PEFT has no name for.
    """

    name: str
    layers: int
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_size: int = 0
    weights: str = ""
    task: str = "CAUSAL_LM"

    def __post_init__(self) -> None:
        """Refuse what is no text and no number: a base may come from a file."""
        for part in ("name", "weights", "task"):
            if not isinstance(getattr(self, part), str):
                raise UserError(f"a base's {part} is a text, got {getattr(self, part)!r}")
        for part in ("layers", "hidden", "heads", "kv_heads", "head_size"):
            if type(getattr(self, part)) is not int or getattr(self, part) < 0:
                raise UserError(f"a base's {part} is a whole number ≥ 0, got {getattr(self, part)!r}")

    def check(self, other: "Base") -> None:
        """Refuse another model than this one: vectors that were trained for one mean nothing to another.

        Raises:
            UserError: another shape, other weights, or, where their weights cannot be compared, another name.
        """
        for part in ("layers", "hidden", "kv_heads", "head_size"):
            ours, theirs = getattr(self, part), getattr(other, part)
            if ours and theirs and ours != theirs:
                raise UserError(
                    f"the prompt was trained for {self.name!r} with {part}={ours}, and {other.name!r} has {theirs}; "
                    "use the model it was trained for, or train it again"
                )
        alike = self.weights.startswith("@") == other.weights.startswith("@")
        if self.weights and other.weights and alike:
            if self.weights != other.weights:
                raise UserError(
                    f"the prompt was trained for {self.name!r}, and the weights of {other.name!r} are others; use the "
                    "model it was trained for, or train it again"
                )
        elif _last(self.name) != _last(other.name):
            raise UserError(
                f"the prompt says that it was trained for {self.name!r}, and this is {other.name!r}; if the two are "
                f"one model, load the prompt with base={other.name!r}"
            )


def base_of(name: str, config: Any, revision: str | None = None) -> Base:
    """The base that is called so.

    Args:
        name: a hub name or a folder.
        config: its configuration in transformers' form.
        revision: of a hub model.
    """
    text = config.get_text_config()
    heads = text.num_attention_heads
    return Base(
        name=name,
        hidden=getattr(text, "word_embed_proj_dim", None) or text.hidden_size,  # OPT has narrower embeddings
        layers=text.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_size=getattr(text, "head_dim", None) or text.hidden_size // heads,
        weights=weights_identity(name, getattr(config, "_commit_hash", None) or revision),  # a tag may come to move
        task="SEQ_2_SEQ_LM" if getattr(config, "is_encoder_decoder", False) else "CAUSAL_LM",
    )


def _last(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]
