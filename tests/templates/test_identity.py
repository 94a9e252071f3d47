from pathlib import Path
from shutil import copytree

import pytest

from templates.identity import model_identity


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder of three files."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(6 * 2**20))
    return folder


def test_a_hub_model_is_its_name_and_revision() -> None:
    """Without a revision it is main's."""
    assert model_identity("org/model", "v2") == "org/model@v2"
    assert model_identity("org/model") == "org/model@main"


def test_a_folder_is_known_by_its_content(folder: Path, tmp_path: Path) -> None:
    """Eight digits after the folder's name, the same wherever the folder lies."""
    name, digest = model_identity(str(folder)).split("@")
    elsewhere = copytree(folder, tmp_path / "elsewhere" / "tiny")
    assert (name, len(digest)) == ("tiny", 8)
    assert model_identity(f"{elsewhere}/") == f"tiny@{digest}"


@pytest.mark.parametrize("place", [0, 2**20 - 1, 3 * 2**20, 5 * 2**20, 6 * 2**20 - 1])
def test_other_weights_are_another_model(folder: Path, place: int) -> None:
    """One changed byte in the first or last MiB of the weights shows, or in the middle."""
    before = model_identity(str(folder))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[place] = 1
    (folder / "model.safetensors").write_bytes(weights)
    assert model_identity(str(folder)) != before


def test_a_changed_matrix_is_another_model(folder: Path) -> None:
    """In 6 MiB the 64 places begin 96 KiB apart, so 32 KiB lie between them, and a change of 33 KiB shows anywhere."""
    before, matrix = model_identity(str(folder)), b"w" * (33 * 2**10)
    for place in range(0, 6 * 2**20 - len(matrix), 211 * 2**10):
        weights = bytearray(6 * 2**20)
        weights[place : place + len(matrix)] = matrix
        (folder / "model.safetensors").write_bytes(weights)
        assert model_identity(str(folder)) != before


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"])
def test_configuration_and_tokenizer_count(folder: Path, name: str) -> None:
    """Each of them changes what the model says."""
    before = model_identity(str(folder))
    (folder / name).write_text('{"changed": true}')
    assert model_identity(str(folder)) != before


def test_a_readme_does_not_count(folder: Path) -> None:
    """What the model never reads leaves its identity alone."""
    before = model_identity(str(folder))
    (folder / "README.md").write_text("A model.")
    assert model_identity(str(folder)) == before
