"""By what a training is known again."""

from dataclasses import asdict
from hashlib import blake2b

from templates.soft.frozen import Frozen
from templates.soft.settings import Training


def identity_of(method: object, settings: Training, rate: float, data: object, frozen: Frozen) -> dict[str, str]:
    """Which training it is: one that goes on must have begun with the same, and be judged on the same.

    Args:
        method: a frozen dataclass.
        settings: of the training; how often checkpoints are kept changes nothing.
        rate: the highest learning rate, whoever named it.
        data: label words, rows, and what is judged; whatever says all of it in its `repr`.
        frozen: the model.
    """
    how = {name: str(value) for name, value in asdict(settings).items() if name != "keep_every"}
    return {
        "method": str(method),
        **how,
        "rate": f"{rate:g}",
        "data": blake2b(repr(data).encode(), digest_size=8).hexdigest(),
        "model": frozen.base.name,
        "weights": frozen.fingerprint(),
        "dtype": str(frozen.embeddings.dtype),
    }
