"""Which model it is, in a form for cache keys, reports, and prompts that belong to a model."""

from hashlib import blake2b
from pathlib import Path

# Of a weights file so many bytes are hashed at each end, and so many at places between: a merged LoRA or a training
# with frozen embeddings leaves the ends alone, but changes whole matrices. A change of a few weights may go unseen.
_END = 2**20
_PLACES, _PIECE = 64, 2**16
_TEXTS = (
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",
)
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")


def model_identity(model: str, revision: str | None = None) -> str:
    """`NAME@REVISION` for a model on the hub, `FOLDER@DIGEST` for one on disk.

    The digest is of what decides the model's words: configuration, tokenizer and weights. So weights that were trained
    again under the same path are another model, and the same folder elsewhere is the same model.
    """
    folder = Path(model)
    if not folder.is_dir():
        return f"{model}@{revision or 'main'}"
    digest = blake2b(digest_size=4)
    for path in _matching(folder, _TEXTS):
        _add(digest, path, path.read_bytes())
    for path in _matching(folder, _WEIGHTS):
        _add(digest, path, _sampled(path))
    return f"{folder.resolve().name}@{digest.hexdigest()}"


def weights_identity(model: str, revision: str | None = None) -> str:
    """A digest of the weights alone, for a folder; for a model on the hub "@REVISION", empty where none is known."""
    folder = Path(model)
    if not model or not folder.is_dir():  # a model that was made in memory has no name
        return f"@{revision}" if revision else ""
    digest = blake2b(digest_size=8)
    for path in _matching(folder, _WEIGHTS):
        _add(digest, path, _sampled(path))
    return digest.hexdigest()


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _sampled(path: Path) -> bytes:
    size = path.stat().st_size
    pieces = [(0, _END), *((size * i // _PLACES, _PIECE) for i in range(_PLACES)), (max(0, size - _END), _END)]
    content = bytearray()
    with path.open("rb") as file:
        for place, length in pieces:
            file.seek(place)
            content += file.read(length)
    return bytes(content)


def _add(digest: blake2b, path: Path, content: bytes) -> None:
    size = path.stat().st_size
    digest.update(f"{path.name}\0{size}\0".encode())
    digest.update(content)
