"""Named prompt texts, one YAML file each. A published text is never edited; it gets a new version.

A file is a template (`text`, …) or a set of demonstrations (`demonstrations`), and always names its `source`.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from templates import answers
from templates.errors import DataError, TemplateError, UnknownName
from templates.template import Template
from templates.verbalizer import Verbalizer

if TYPE_CHECKING:
    from templates.library.schema import LibraryFile

FOLDER = Path(__file__).parent

READERS = {
    "text": answers.text,
    "number": answers.number,
    "choice": answers.choice,
    "yes_no": answers.yes_no,
    "boxed": answers.boxed,
    "lm_eval_strict": answers.lm_eval_strict,
    "lm_eval_flexible": answers.lm_eval_flexible,
}


def library_names() -> list[str]:
    """The names of everything in the library."""
    return sorted(path.name.removesuffix(".yaml") for path in FOLDER.glob("*.yaml"))


def load_template(name: str | Path) -> Template:
    """A template of the library by name, such as "math.cot.v1", or one's own from the path of a YAML file."""
    file, stem = _read(name)
    if file.text is None:
        raise UnknownName(f"{stem!r} holds demonstrations, not a template; load it with load_demonstrations")
    try:
        verbalizer = Verbalizer(file.labels) if file.labels else None
        return Template(
            text=file.text,
            response=file.response,
            instruction=file.instruction,
            separator=file.separator,
            stop=tuple(file.stop),
            reader=verbalizer.read if verbalizer else READERS[file.reader],
            chat=file.chat,
            verbalizer=verbalizer,
            name=stem,
        )
    except TemplateError as error:
        raise TemplateError(f"{name}: {error}") from error


def load_demonstrations(name: str | Path) -> list[dict[str, str]]:
    """A set of demonstrations of the library: each a mapping with `id`, `question`, `rationale` and `answer`."""
    file, stem = _read(name)
    if not file.demonstrations:
        raise UnknownName(f"{stem!r} is a template, not a set of demonstrations; load it with load_template")
    return [{"id": f"{stem}/{i}", **demo} for i, demo in enumerate(file.demonstrations)]


def _read(name: str | Path) -> "tuple[LibraryFile, str]":
    import yaml
    from pydantic import ValidationError

    from templates.library.schema import LibraryFile

    own = Path(name).suffix in {".yaml", ".yml"}
    path = Path(name) if own else FOLDER / f"{name}.yaml"
    if not path.is_file():
        if own:
            raise DataError(f"no template file {path}; check the path")
        near = get_close_matches(str(name), library_names(), cutoff=0.4) or library_names()
        raise UnknownName(f"no prompt text {str(name)!r} in the library; the nearest: {', '.join(near)}")
    try:
        return LibraryFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))), path.stem
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise DataError(f"{path}, {where}: {first['msg']}; see templates/library for examples") from error


def is_demonstrations(name: str) -> bool:
    """Whether a name of the library stands for demonstrations and not for a template."""
    return _read(name)[0].text is None


def source_of(name: str) -> str:
    """Where a text of the library comes from."""
    return " ".join(_read(name)[0].source.split())
