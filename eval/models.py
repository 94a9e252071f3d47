"""Models of transformers, as commands that train or look into them load them."""

from typing import Any

from templates.errors import UserError


def load_model(model: str, dtype: str = "auto", device: Any = "cpu", *, headless: bool = False) -> tuple[Any, Any]:
    """The model and its tokenizer.

    Args:
        model: a hub name, a folder, or the bundled model's name.
        dtype: of its weights.
        device: where it goes.
        headless: without an output layer, for what reads hidden states.

    Raises:
        UserError: it cannot be loaded; says why.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    from icl.backends.tokens import configuration, load_tokenizer, unloadable
    from icl.backends.transformers import DTYPES
    from icl.tiny import located
    from templates.soft.families import loader_of

    name = located(model)
    if dtype not in DTYPES:
        raise UserError(f"dtype is one of {', '.join(DTYPES)}, got {dtype!r}")
    loader = AutoModel if headless else loader_of(configuration(name))
    try:
        loaded, tokenizer = loader.from_pretrained(name, dtype=dtype), load_tokenizer(name)
    except (OSError, ValueError, SafetensorError) as error:
        raise unloadable("model", name, error) from error
    try:
        return loaded.to(device), tokenizer
    except (RuntimeError, AssertionError) as error:  # of torch: no such device, not built for it, no memory on it
        raise UserError(f"the model cannot be put on device {str(device)!r}: {error}; name another") from error
