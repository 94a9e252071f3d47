"""Prefixes for vLLM's engine: kept in a folder where its connector finds them."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from templates.soft import Prefix


class Prefixes:
    """Those that an engine has been asked for; the folder goes when they go."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="icl-prefixes-")
        self._kept: set[str] = set()

    def transfer_config(self) -> Any:
        """The engine's `kv_transfer_config`."""
        from vllm.config import KVTransferConfig

        return KVTransferConfig(
            kv_connector="PrefixConnector",
            kv_connector_module_path="icl.backends.vllm_connector",
            kv_role="kv_consumer",
            kv_connector_extra_config={"folder": self._folder.name},
        )

    def keep(self, prefix: Prefix) -> None:
        """Write its keys and values, [L, 2, P, K, D], once."""
        if prefix.digest in self._kept:
            return
        import numpy as np
        from safetensors.numpy import save_file

        both = np.stack([prefix.keys, prefix.values], 1).transpose(0, 1, 3, 2, 4)
        save_file({"prefix": np.ascontiguousarray(both)}, Path(self._folder.name) / f"{prefix.digest}.safetensors")
        self._kept.add(prefix.digest)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


def prefix_of(params: Mapping[str, Any] | None) -> tuple[str, int] | None:
    """The prefix that a request asks for, and its tokens."""
    return (params["prefix"], params["tokens"]) if params and "prefix" in params else None


def slots(blocks: list[int], size: int, first: int, stop: int) -> list[int]:
    """Places in the cache of a request's tokens from `first` on, before `stop`.

    >>> slots([7, 4], size=16, first=14, stop=18)
    [126, 127, 64, 65]
    """
    return [blocks[token // size] * size + token % size for token in range(first, stop)]
