"""What a run is made of, as it stands in a YAML file or in a run folder. Data enters here: pydantic models."""

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from inspect import signature
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from eval.registry import build, find
from eval.soft import load_prompt, with_prompt
from icl.backends.cached import Cached
from icl.backends.metered import Metered
from icl.backends.replay import Replay
from icl.backends.retrying import Retrying
from icl.concurrency import LIMIT
from icl.example import Example
from icl.loading import load_examples
from icl.pipeline import Pipeline
from icl.tiny import NAME, located
from templates import Template, load_demonstrations, load_template
from templates.errors import DataError, UserError
from templates.library import library_names

_IN_PROCESS = ("vllm", "transformers")  # backends that load the model; a server knows it by a name of its own


class Part(BaseModel):
    """A registered thing and its parameters; in YAML `knn`, or `{name: knn, index: hnsw}`."""

    model_config = ConfigDict(extra="allow")

    name: str

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def params(self) -> dict[str, Any]:
        """All but the name."""
        return dict(self.model_extra or {})


class PipelineConfig(BaseModel):
    """A pipeline in words; `icl run` reads one from YAML.

    `backend`'s parameters are the backend's own (for vLLM its engine arguments). `pool` is a file of examples to select
    from; `demos` a file, or a name in the library, of demonstrations used as they are. `soft_prompt` is the folder of a
    trained prompt for this model.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    backend: Part = Part(name="vllm")
    template: str
    strategy: Part = Part(name="self-consistency")
    selector: Part | None = None
    orderer: Part = Part(name="similarity")
    k: NonNegativeInt = 8
    pool: str | None = None
    demos: str | None = None
    soft_prompt: str | None = None
    seed: int = 0
    concurrency: PositiveInt = LIMIT

    @model_validator(mode="before")
    @classmethod
    def _bundled(cls, value: Any) -> Any:
        """The bundled model runs on transformers where nothing else is said: it is there at once."""
        if isinstance(value, dict) and value.get("model") == NAME:
            return {"backend": "transformers", **value}
        return value

    @model_validator(mode="after")
    def _known(self) -> "PipelineConfig":
        """Every name is one of the registry's: a slip is found before any file is read."""
        parts = {"backends": self.backend, "strategies": self.strategy, "selectors": self.selector}
        for kind, part in (parts | {"orderers": self.orderer}).items():
            if part is not None:
                find(kind, part.name)
        if "api_key" in self.backend.params:
            raise UserError("a key has no place in a file or a command: set OPENAI_API_KEY in the environment")
        return self

    def build(self, store: Path) -> tuple[Pipeline, Metered]:
        """The pipeline, its model cached in `store`, and the meter on what the cache does not have."""
        model = located(self.model) if self.backend.name in _IN_PROCESS else self.model
        backend = build("backends", self.backend.name, model, **self.backend.params)
        metered = Metered(backend)
        asked = Retrying(metered)
        pipeline = Pipeline(
            lm=asked if isinstance(backend, Replay) else Cached(asked, store),  # what is saved need not be saved again
            template=self._template(),
            strategy=build("strategies", self.strategy.name, **self.strategy.params),
            selector=self._selector(),
            orderer=self._seeded("orderers", self.orderer),
            k=self.k,
            seed=self.seed,
            concurrency=self.concurrency,
        )
        return pipeline, metered

    def _template(self) -> Template:
        template = load_template(self.template)
        return with_prompt(template, self.soft_prompt) if self.soft_prompt else template

    def _selector(self) -> Any:
        if self.selector is not None:
            return self._seeded("selectors", self.selector)
        return build("selectors", "fixed") if self.demos else None

    def _seeded(self, kind: str, part: Part) -> Any:
        """The part, with the pipeline's seed where it takes one and has none of its own."""
        seed = {"seed": self.seed} if "seed" in signature(find(kind, part.name)).parameters else {}
        return build(kind, part.name, **(seed | part.params))

    def examples(self, load: Callable[[str], Sequence[Example]] = load_examples) -> Sequence[Example]:
        """What demonstrations are chosen from, files read by `load`; empty where the pipeline shows none."""
        if self.pool and self.demos:
            raise UserError(f"give a pool ({self.pool}) or demonstrations ({self.demos}), not both")
        if self.k == 0:
            return []
        if self.demos in library_names():
            return load_examples(load_demonstrations(str(self.demos)))
        source = self.pool or self.demos
        if self.selector is not None and source is None:
            raise UserError(f"selector {self.selector.name!r} needs a pool to select from; give one")
        return load(source) if source else []


class RunConfig(PipelineConfig):
    """An evaluation in words: a pipeline, a task, and the digests of the files that went in."""

    task: str
    data: str | None = None
    limit: PositiveInt | None = None
    digests: dict[str, str] = Field(default_factory=dict)

    def with_digests(self) -> "RunConfig":
        """Itself, with a digest of every file that it names, so that changed data is another run."""
        files = {key: getattr(self, key) for key in ("data", "pool", "demos", "template", "model")}
        digests = {
            key: blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()
            for key, file in files.items()
            if file and Path(file).is_file()
        }
        if self.soft_prompt:
            digests["soft_prompt"] = load_prompt(self.soft_prompt).digest
        return self.model_copy(update={"digests": digests})


def load_pipeline(path: Path) -> PipelineConfig:
    """The pipeline in a YAML file.

    Raises:
        DataError: no such file, not YAML, or a wrong field: names file and field.
    """
    import yaml

    if not path.is_file():
        raise DataError(f"no file {path}; check the path")
    try:
        return PipelineConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        raise DataError(f"{path}, {explained(error)}") from error


def explained(error: ValidationError) -> str:
    """The first thing that pydantic found, in one line."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or "file"
    known = ", ".join(PipelineConfig.model_fields)
    more = f"; the fields are {known}" if first["type"] == "extra_forbidden" else ""
    return f"field {field!r}: {first['msg']}, got {json.dumps(first['input'], default=str):.80}{more}"
