"""The form of a library file; data enters here, so it is a pydantic model."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator


class LibraryFile(BaseModel):
    """One YAML file of the library: a template, or a set of demonstrations."""

    model_config = ConfigDict(extra="forbid")

    source: str
    text: str | None = None
    response: str = "{answer}"
    instruction: str = ""
    separator: str = "\n\n"
    stop: list[str] = []
    reader: Literal["text", "number", "choice", "yes_no", "boxed", "lm_eval_strict", "lm_eval_flexible"] = "text"
    chat: bool = False
    labels: dict[str, list[str]] = {}
    demonstrations: list[dict[str, str]] = []

    @model_validator(mode="after")
    def _one_of_two(self) -> "LibraryFile":
        if (self.text is None) == (not self.demonstrations):
            raise ValueError("a library file has either a text or demonstrations")
        return self
