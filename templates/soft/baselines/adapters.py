"""Adapters of PEFT: put into a model, taken out as files, merged into its weights."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templates.errors import UserError
from templates.soft.baselines.methods import Begun

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter as PEFT keeps it.

    Args:
        config: PEFT's.
        tensors: by PEFT's names.
    """

    config: Any
    tensors: "Mapping[str, Tensor]"

    def write(self, folder: Path) -> None:
        """As `peft.PeftModel.from_pretrained` reads it."""
        from safetensors.torch import save_file

        save_file(dict(self.tensors), folder / WEIGHTS, metadata={"format": "pt"})
        self.config.inference_mode = True
        self.config.save_pretrained(str(folder))


def adapted(model: Any, kind: str, settings: Mapping[str, Any], seed: int) -> Begun:
    """Put an adapter into the model; the weights that learn are its own, in float32.

    Args:
        model: of transformers; its layers are changed in their places.
        kind: the name of PEFT's configuration.
        settings: what goes into it.
        seed: of weights that are drawn.

    Raises:
        UserError: PEFT is not installed, or does not know where in this model the adapter goes.
    """
    from templates.soft.modules import drawn

    try:
        import peft
    except ImportError as error:
        raise UserError("LoRA and IA3 run on PEFT, which is not installed: pip install 'icl-toolkit[peft]'") from error
    task = None  # PEFT has none for masked models
    if model.can_generate():
        task = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    with drawn(seed), warnings.catch_warnings():  # PEFT draws on the CPU, wherever the model is
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # GPT-2's layers lie the other way: PEFT turns it
        try:
            adapter = peft.get_peft_model(model, getattr(peft, kind)(task_type=task, **settings))
        except ValueError as error:
            raise UserError(
                f"PEFT cannot put the adapter into {model.name_or_path!r} ({model.config.model_type}): {error}; name "
                "the layers with targets=(…)"
            ) from error
    return Begun([weight for weight in adapter.parameters() if weight.requires_grad], adapter)


def merged(adapter: Any) -> Adapter:
    """Merge PEFT's adapter into the model that it is in; what comes back is the adapter alone, as it was."""
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(adapter, save_embedding_layers=False)
    kept = Adapter(adapter.peft_config["default"], {name: one.detach().cpu().clone() for name, one in tensors.items()})
    adapter.merge_and_unload()
    return kept
