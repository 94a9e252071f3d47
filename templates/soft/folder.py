"""Trained prompts on disk, in PEFT's format: `adapter_config.json`, `adapter_model.safetensors`, and notes of our own.

No pickle: what comes from others is loaded without running any of it.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from templates.errors import DataError, StorageError, Unsupported, UserError
from templates.soft.base import Base
from templates.soft.prompt import Array, Prefix, SoftPrompt, Trained

CONFIG, WEIGHTS, NOTES = "adapter_config.json", "adapter_model.safetensors", "icl_prompt.json"
TUNED, MERGED = "icl_tuned.json", "merged"  # notes of a tuned model; in an adapter's folder, the whole model with it
MIXTURE = "icl_mixture.json"  # notes of a mixture, whose prompts lie in numbered folders
TENSOR = "prompt_embeddings"  # the one tensor that PEFT keeps of a prompt
KINDS: dict[str, type[Trained]] = {"PROMPT_TUNING": SoftPrompt, "P_TUNING": SoftPrompt, "PREFIX_TUNING": Prefix}


def write(prompt: Trained, folder: Path) -> Path:
    """Write the folder, whole or not at all; see `replaced`."""
    from safetensors.numpy import save_file

    with replaced(folder) as new:
        save_file({TENSOR: prompt.vectors}, new / WEIGHTS, metadata={"format": "pt"})
        write_json(new / CONFIG, peft_config(prompt))
        write_json(new / NOTES, {"base": asdict(prompt.base), "made": dict(prompt.made)})
    return folder


def check_place(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but one prompt, mixture or tuned model.

    Raises:
        UserError: it does; nothing was touched.
    """
    if not folder.exists():
        return
    inside = list(folder.iterdir()) if folder.is_dir() else [folder]
    known = {path.name for path in inside} & {CONFIG, TUNED, MIXTURE}
    folders = [path.name for path in inside if path.is_dir()]
    other = [name for name in folders if name != MERGED and not (MIXTURE in known and name.isdigit())]
    if inside and (other or not known):
        raise UserError(
            f"{folder} holds {(other or [inside[0].name])[0]!r}, which would be lost: it is no folder of one prompt; "
            f"name a new one, such as {folder / 'NAME'}"
        )


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder beside the place, which is moved there when it is whole.

    Raises:
        StorageError: disk full, no permission; what was there is untouched.
        UserError: something else is there.
    """
    from safetensors import SafetensorError

    check_place(folder)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = new.with_suffix(".old")
    try:
        new.mkdir(parents=True)
        yield new
        for path in new.rglob("*"):
            if path.is_file():  # some writers let nobody else read
                path.chmod(new.stat().st_mode & 0o666)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except (OSError, SafetensorError) as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise StorageError(
            f"cannot write {folder}: {error}; what was there before is untouched: make room, then save again"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def read(folder: Path) -> Trained:
    """The prompt in the folder, ours or PEFT's.

    Raises:
        DataError: a file is missing or is not what it should be; says which, and what is wrong with it.
        Unsupported: a LLaMA-Adapter.
    """
    if not folder.is_dir() and (aside := sorted(folder.parent.glob(f".{folder.name}.*.old"))):
        raise DataError(f"{folder} is not there: a save was killed halfway; what it held before is in {aside[-1]}")
    config = json_of(folder / CONFIG)
    kind = KINDS.get(str(config.get("peft_type")))
    if config.get("peft_type") == "ADAPTION_PROMPT":
        raise Unsupported(
            f"{folder} is a LLaMA-Adapter's, which stands in no prompt and which no backend can serve; load it with "
            "GatedPrompt.load, and call the transformers model itself within `with applied(adapter, model):`"
        )
    if kind is None:
        raise DataError(f"{folder / CONFIG} is of type {config.get('peft_type')!r}; a prompt's is one of {list(KINDS)}")
    tensors = tensors_in(folder / WEIGHTS)
    if TENSOR not in tensors:
        raise DataError(f"{folder / WEIGHTS} has {sorted(tensors)} and no {TENSOR!r}; it is not a prompt's")
    if (folder / NOTES).is_file():
        base, made = notes_in(folder / NOTES)
    else:
        base, made = base_in(config, kind, folder / CONFIG), {"method": config["peft_type"]}
    vectors = tensors[TENSOR]
    if base.task == "SEQ_2_SEQ_LM":  # PEFT keeps as many rows again for the decoder, and never uses them
        tokens = config.get("num_virtual_tokens")
        if type(tokens) is not int:
            raise DataError(
                f"{folder / CONFIG} has num_virtual_tokens {tokens!r}, where a number belongs; save it again"
            )
        vectors = vectors[:tokens]
    return kind(vectors, base, made)


def peft_config(prompt: Trained) -> dict[str, Any]:
    """What PEFT wants to know of a prompt."""
    base = prompt.base
    shared = {
        "task_type": base.task,
        "base_model_name_or_path": base.name,
        "num_virtual_tokens": len(prompt),
        "num_transformer_submodules": 1,  # of an encoder with a decoder the encoder alone
        "num_layers": base.layers,
        "inference_mode": True,
    }
    if isinstance(prompt, Prefix):
        width = base.kv_heads * base.head_size
        own = {"token_dim": width, "num_attention_heads": base.kv_heads, "prefix_projection": False}
        return {"peft_type": "PREFIX_TUNING", **shared, **own, "encoder_hidden_size": width}
    return {"peft_type": "PROMPT_TUNING", **shared, "token_dim": base.hidden, "num_attention_heads": base.heads}


def base_in(config: dict[str, Any], kind: type[Trained], file: Path) -> Base:
    """The base that PEFT's configuration names; of prefixes its heads are those of keys and values.

    Raises:
        DataError: the file that it is from does not say which; says what is wrong.
    """
    try:
        name, layers = str(config["base_model_name_or_path"]), config["num_layers"]
        heads, width = config["num_attention_heads"], config["token_dim"]
        task = str(config.get("task_type") or "CAUSAL_LM")
        if kind is Prefix:
            return Base(name, layers, kv_heads=heads, head_size=width // heads, task=task)
        return Base(name, layers, hidden=width, heads=heads, task=task)
    except (KeyError, TypeError, ArithmeticError, UserError) as error:
        raise DataError(f"{file} does not say which model it is for: {error!r}; save it again with PEFT") from error


def notes_in(file: Path) -> tuple[Base, dict[str, Any]]:
    """Which model something was trained for and how it was made, from the notes beside it.

    Raises:
        DataError: there are none, or they say neither; says what is wrong with them.
    """
    found = json_of(file)
    base: Any = found.get("base")
    made: Any = found.get("made", {})
    for name, part in (("base", base), ("made", made)):
        if not isinstance(part, dict):
            raise DataError(f"{file} has {name} {part!r}, where an object belongs; make it anew")
    try:
        return Base(**base), made
    except (TypeError, UserError) as error:
        raise DataError(f"{file} does not say which model it is for: {error}; make it anew") from error


def tensors_in(file: Path) -> dict[str, Array]:
    """The tensors in the file, by their names.

    Raises:
        DataError: no file, no safetensors, or of a type that numpy does not have; says which.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError, TypeError, AttributeError) as error:  # numpy has no bfloat16, no float8
        raise DataError(f"{file} cannot be read ({error}); save it again as safetensors in float32") from error


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write it for `json_of`."""
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def json_of(path: Path) -> dict[str, Any]:
    """The JSON object in the file.

    Raises:
        DataError: no file, no JSON, or no object; says which.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); name a folder that a training or PEFT wrote"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON ({error}); copy it again from where it is whole, or make it anew"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path} is not a JSON object but a {type(found).__name__}; copy it again from where it is whole, or make "
            "it anew"
        )
    return found
