"""Less memory for more time: layers that keep no activations, and run again when a gradient goes through them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_OWN = "_gradient_checkpointing_func"  # what transformers has a layer run again with


@contextmanager
def recomputed(model: Any) -> Iterator[None]:
    """Within, the model's layers run again for gradients (Chen et al. 2016, arXiv:1604.06174), and nothing is dropped.

    transformers does this for layers in training mode alone, in which some (BART's, OPT's) drop activations; so a
    layer is in training mode until it begins to run, and again when it has run.

    Args:
        model: of transformers, in evaluation mode.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    def begin(layer: Any, _: Any) -> None:
        layer.training = False

    def end(layer: Any, *_: Any) -> None:
        layer.training = True

    already = model.is_gradient_checkpointing
    with ExitStack() as afterwards:
        for layer in model.modules():
            if already and (own := vars(layer).get(_OWN)):
                afterwards.callback(setattr, layer, _OWN, own)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if not already:
            afterwards.callback(model.gradient_checkpointing_disable)
        for layer in model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                afterwards.callback(setattr, layer, "training", layer.training)
                afterwards.callback(layer.register_forward_pre_hook(begin).remove)
                afterwards.callback(layer.register_forward_hook(end, always_call=True).remove)
                layer.training = True
        yield


@contextmanager
def once(model: Any) -> Iterator[None]:
    """Within, no layer runs again, as is enough without gradients: one that did would keep no keys and values.

    Args:
        model: of transformers, `recomputed` or not.
    """
    with ExitStack() as afterwards:
        for layer in model.modules():
            if getattr(layer, "gradient_checkpointing", False):
                afterwards.callback(setattr, layer, "gradient_checkpointing", True)  # noqa: FBT003 - setattr's own
                layer.gradient_checkpointing = False
        yield
