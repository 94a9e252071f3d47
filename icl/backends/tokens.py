"""What backends that run a model themselves share: its tokenizer, its context, and from token ids to text."""

from typing import Any

from templates.errors import PromptTooLong, UserError

_HALF = "\N{REPLACEMENT CHARACTER}"  # what tokenizers show for a character whose bytes are not all there
_TAIL = 6  # prompt tokens before a completion, more than the bytes of any character


def room_for(prompt_tokens: int, max_tokens: int, context: int) -> int:
    """How many of `max_tokens` fit after the prompt, at least one. This is also what vLLM does.

    Raises:
        PromptTooLong: not even one.
    """
    if prompt_tokens >= context:
        raise PromptTooLong(
            f"the prompt has {prompt_tokens} tokens and the model has room for {context}, of which one is for the "
            f"answer; use fewer or shorter demonstrations, or a model with a longer context"
        )
    return min(max_tokens, context - prompt_tokens)


def load_tokenizer(model: str, revision: str | None = None) -> Any:
    """The tokenizer in the folder, or of that name on the hub."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise unloadable("tokenizer", model, error) from error
    tokenizer.encode("")  # turns off the truncation that some come with; nothing is set afterwards, so threads share it
    return tokenizer


def configuration(model: str, revision: str | None = None) -> Any:
    """The configuration in the folder, or of that name on the hub."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise unloadable("configuration", model, error) from error


def context_length(model: str, revision: str | None = None) -> int:
    """Tokens that prompt and completion may have together: the model's positions, or fewer if its tokenizer says so."""
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    config = configuration(model, revision).get_text_config()
    try:
        declared = get_tokenizer_config(model, revision=revision).get("model_max_length")
    except (OSError, ValueError) as error:
        raise unloadable("tokenizer's configuration", model, error) from error
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        raise UserError(f"the configuration of {model!r} does not say how much fits; give max_model_len")
    return int(min(positions, declared or positions))


def unloadable(what: str, model: str, error: Exception) -> UserError:
    """The error for a model that is not there, or not a model."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return UserError(f"the {what} of {model!r} cannot be loaded; give a model's folder or a hub name ({reason})")


def text_of(tokenizer: Any, prompt: list[int], tokens: list[int]) -> str:
    """The text of a completion's tokens, as `Growing` tells it, in one go where that is possible."""
    growing = Growing(tokenizer, prompt)
    growing.add(*tokens)
    if growing.waiting:  # the last character is not whole: find out how far it is
        growing = Growing(tokenizer, prompt)
        for token in tokens:
            growing.add(token)
    return growing.text


class Growing:
    """The text of a completion while its tokens arrive.

    Text counts when its characters are whole: bytes of a character wait for the rest of it, and are left out where the
    rest never comes. Special tokens have no text.

    Args:
        tokenizer: the model's.
        prompt: token ids of the prompt; a tokenizer may write a token differently at the start of a text.
        stop: strings that end the completion.
    """

    def __init__(self, tokenizer: Any, prompt: list[int], stop: tuple[str, ...] = ()) -> None:
        self.text = ""
        self.stopped = False
        self._tokenizer, self._stop = tokenizer, stop
        self._ids = prompt[-_TAIL:]
        self._before = self._decoded(0)  # text of the ids since _start that has been read
        self._start, self._read = 0, len(self._ids)

    def add(self, *tokens: int) -> None:
        """Take more tokens; at a stop string the text is cut before it, and `stopped` becomes true."""
        self._ids.extend(tokens)
        now = self._decoded(self._start)
        if len(now) <= len(self._before) or now.endswith(_HALF):
            return
        new = now[len(self._before) :]
        self.text += new
        # The tokens just read stay in the window, as the context in which the next ones are written.
        self._start, self._read = self._read, len(self._ids)
        self._before = self._decoded(self._start)
        self._cut(len(new))

    @property
    def waiting(self) -> bool:
        """Whether there are tokens whose text is not known yet."""
        return self._read < len(self._ids)

    def _decoded(self, start: int) -> str:
        text = self._tokenizer.decode(self._ids[start:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _cut(self, new: int) -> None:
        """Cut the text at the stop string that is complete first; only the last `new` characters are new."""
        found = [(at + len(stop), at) for stop in self._stop if (at := self.text.find(stop, -new - len(stop) + 1)) >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)[1]], True
