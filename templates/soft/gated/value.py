"""A trained LLaMA-Adapter as a value, and on disk in PEFT's format.

Dimensions: M adapted layers, the topmost ones; P soft tokens, H hidden, A heads of attention, L layers.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from templates.errors import DataError, Unsupported, UserError
from templates.soft.base import Base
from templates.soft.folder import CONFIG, NOTES, WEIGHTS, json_of, notes_in, replaced, tensors_in, write_json
from templates.soft.prompt import Array, kept

KIND = "ADAPTION_PROMPT"  # as PEFT calls it
_NAME = re.compile(r"layers\.(?P<layer>\d+)\.self_attn\.adaption_(?P<part>prompt|gate)$")


@dataclass(frozen=True, eq=False)
class GatedPrompt:
    """Prompts of the topmost layers, and the gates behind which these stand. Two are equal when their numbers are.

    Unlike `Trained`, it is no part of a prompt: see `applied`.

    Args:
        prompts: [M, P, H].
        gates: [M, 1], one for all heads as in PEFT, or [M, A].
        base: the model it was trained for.
        made: how it was made; for people.
    """

    prompts: Array
    gates: Array
    base: Base
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse other shapes, and what is not finite."""
        prompts, gates = kept(self.prompts), kept(self.gates)
        base, shape = self.base, prompts.shape
        good = len(shape) == 3 and min(shape) > 0 and shape[0] <= base.layers and shape[2] == base.hidden  # noqa: PLR2004
        if not good or gates.shape not in {(shape[0], 1), (shape[0], base.heads)}:
            raise UserError(
                f"a GatedPrompt for {base.name!r} has prompts [at most {base.layers} layers, tokens, {base.hidden}] "
                f"and gates [layers, 1 or {base.heads}], got {list(shape)} and {list(gates.shape)}"
            )
        if not (np.isfinite(prompts).all() and np.isfinite(gates).all()):
            raise UserError(f"a GatedPrompt holds finite numbers, and those for {base.name!r} are not all")
        object.__setattr__(self, "prompts", prompts)
        object.__setattr__(self, "gates", gates)

    @property
    def vectors(self) -> Array:
        """There are none that could stand in a prompt.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(
            f"{self!r} stands in no prompt, and no backend can serve it, vLLM neither: its layers attend to it in a "
            "softmax of its own behind a gate, which no entry of a KV cache does; call the transformers model itself "
            "within `with applied(adapter, model):`, or train a PTuningV2 prefix"
        )

    @property
    def digest(self) -> str:
        """Of shapes and numbers."""
        shape = f"{type(self).__name__}{self.prompts.shape}{self.gates.shape}"
        numbers = self.prompts.tobytes() + self.gates.tobytes()
        return blake2b(shape.encode() + numbers, digest_size=8).hexdigest()

    def __len__(self) -> int:
        """How many soft tokens, P."""
        return int(self.prompts.shape[1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GatedPrompt) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"GatedPrompt({len(self.prompts)} layers of {len(self)} tokens for {self.base.name!r}, {self.digest})"

    def save(self, path: str | Path) -> Path:
        """Write it as a folder in PEFT's format. PEFT itself loads those with one gate a layer."""
        from safetensors.numpy import save_file

        first = self.base.layers - len(self.prompts)
        tensors: dict[str, Array] = {}
        for layer, (prompt, gate) in enumerate(zip(self.prompts, self.gates, strict=True), start=first):
            place = f"base_model.model.model.layers.{layer}.self_attn"
            tensors |= {f"{place}.adaption_prompt": prompt[None], f"{place}.adaption_gate": gate}
        config = {
            "peft_type": KIND,
            "task_type": self.base.task,
            "base_model_name_or_path": self.base.name,
            "adapter_len": len(self),
            "adapter_layers": len(self.prompts),
            "target_modules": "self_attn",
            "inference_mode": True,
        }
        with replaced(Path(path)) as new:
            save_file(tensors, new / WEIGHTS, metadata={"format": "pt"})
            write_json(new / CONFIG, config)
            write_json(new / NOTES, {"base": asdict(self.base), "made": dict(self.made)})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, base: str | None = None) -> "GatedPrompt":
        """What `save` wrote, or PEFT's folder of a Llama's or a Mistral's.

        Args:
            path: the folder.
            base: the name of its model, where the folder says another one and you know better.
        Raises:
            DataError: no such folder, or not an adapter's.
        """
        folder = Path(path)
        config = json_of(folder / CONFIG)
        if config.get("peft_type") != KIND:
            raise DataError(f"{folder / CONFIG} is of type {config.get('peft_type')!r}; a LLaMA-Adapter's is {KIND!r}")
        tensors = tensors_in(folder / WEIGHTS)
        try:
            found = {
                match["layer"] + match["part"]: one for name, one in tensors.items() if (match := _NAME.search(name))
            }
            layers = sorted(int(name.removesuffix("gate")) for name in found if name.endswith("gate"))
            prompts = np.concatenate([found[f"{layer}prompt"] for layer in layers])
            gates = np.stack([found[f"{layer}gate"] for layer in layers])
            if (folder / NOTES).is_file():
                own, made = notes_in(folder / NOTES)
            else:
                name = str(config["base_model_name_or_path"])
                own = Base(name, layers[-1] + 1, prompts.shape[2], heads=gates.shape[1])
                made = {"method": KIND}
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(f"{folder / WEIGHTS} is not a LLaMA-Adapter's ({error!r}); save it again") from error
        adapter = cls(prompts, gates, own, made)
        return replace(adapter, base=replace(own, name=base, weights="")) if base else adapter
