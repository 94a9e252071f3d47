"""Which model it is, in a form for cache keys and reports."""

from hashlib import blake2b
from pathlib import Path

_END = 2**20  # bytes hashed at each end of a weights file; training changes all weights, and these with them
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
        _add(digest, path, _ends(path))
    return f"{folder.resolve().name}@{digest.hexdigest()}"


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        first = file.read(_END)
        file.seek(max(0, path.stat().st_size - _END))
        return first + file.read()


def _add(digest: blake2b, path: Path, content: bytes) -> None:
    size = path.stat().st_size
    digest.update(f"{path.name}\0{size}\0".encode())
    digest.update(content)
