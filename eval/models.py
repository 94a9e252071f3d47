"""Models of transformers, as commands that train or look into them load them."""

from typing import Any


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
    from icl.tiny import located
    from templates.soft.families import loader_of

    name = located(model)
    loader = AutoModel if headless else loader_of(configuration(name))
    try:
        return loader.from_pretrained(name, dtype=dtype).to(device), load_tokenizer(name)
    except (OSError, ValueError, SafetensorError) as error:
        raise unloadable("model", name, error) from error
