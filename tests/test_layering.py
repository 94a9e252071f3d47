import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ("templates", "icl", "cot", "eval")  # each may import itself and what stands before it
FOOT = {"example", "lm", "trace", "votes", "concurrency", "seeds", "vectors", "reading"}  # of icl
ASSEMBLES = {"pipeline", "__init__"}  # what puts the parts of icl together
PARTS = {path.stem for path in (ROOT / "icl").iterdir()}


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """The dotted names that a module imports from the house, however deep the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "icl":
            names = [f"icl.{alias.name if alias.name in PARTS else '__init__'}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        yield from (tuple(name.split(".")) for name in names if name.split(".")[0] in HOUSE)


def modules(package: str) -> list[Path]:
    """The files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def shown(path: Path) -> str:
    """A file's name from the root on."""
    return str(path.relative_to(ROOT))


MODULES = [path for package in HOUSE for path in modules(package)]


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_imports_point_down(path: Path) -> None:
    """A package imports only itself and the packages that it stands on."""
    own = path.relative_to(ROOT).parts[0]
    allowed = HOUSE[: HOUSE.index(own) + 1]
    assert {name[0] for name in imports(path)} <= set(allowed)


@pytest.mark.parametrize("path", modules("icl"), ids=shown)
def test_icl_stands_on_its_foot(path: Path) -> None:
    """The foot of icl imports nothing above it; the rest imports the foot and its own folder, never a neighbour."""
    parts = path.relative_to(ROOT / "icl").with_suffix("").parts
    if parts[0] in ASSEMBLES:
        return
    allowed = FOOT if parts[0] in FOOT else FOOT | {parts[0]}
    assert {name[1] for name in imports(path) if name[0] == "icl"} <= allowed | KNOWN.get(path.stem, set())


# Where a method stands on another part of icl, said here.
KNOWN = {"knn": {"embedders"}}


@pytest.mark.parametrize("path", modules("cot"), ids=shown)
def test_strategies_see_only_the_foot(path: Path) -> None:
    """A strategy imports templates and the foot of icl: it runs on any model and any pipeline."""
    assert {name[1] for name in imports(path) if name[0] == "icl"} <= FOOT


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from icl import pipeline", ("icl", "pipeline")),
        ("from icl.pipeline import Pipeline", ("icl", "pipeline")),
        ("from icl import Pipeline", ("icl", "__init__")),  # by way of what puts the parts together
    ],
)
def test_no_way_to_import_escapes(tmp_path: Path, line: str, name: tuple[str, ...]) -> None:
    """However a part of icl is imported, and however deep in the file, it is seen."""
    (tmp_path / "some.py").write_text(f"def work():\n    {line}\n")
    assert list(imports(tmp_path / "some.py")) == [name]


def test_packages_are_not_imported_by_their_bare_name() -> None:
    """`from eval.x import y`, never `import eval`: the builtin of that name stays what it is."""
    bare = [p for p in MODULES if re.search(rf"^\s*import ({'|'.join(HOUSE)})\b", p.read_text(), re.MULTILINE)]
    assert bare == []
