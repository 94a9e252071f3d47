"""Every error that this project raises, in one tree.

    ICLError
    ├── UserError                what was asked for cannot be done as asked (exit code 2)
    │   ├── TemplateError        a template's text is not a template
    │   │   └── MissingSlot      an example lacks a field that the template shows
    │   ├── DataError            a file, or a row of it, cannot be read
    │   ├── UnknownName          no such strategy, selector, task …; names the nearest
    │   ├── NotEnoughDemos       more demonstrations asked for than there are
    │   ├── NotFitted            a selector asked before it was given its pool
    │   ├── PromptTooLong        the query alone exceeds the context
    │   ├── Unsupported          this backend cannot do that
    │   ├── RunMismatch          the run folder holds another run, or one in progress
    │   └── Diverged             a training's loss is not a number any more
    ├── ModelError               the model's side failed (exit code 1)
    │   ├── Transient            worth another try: busy, timed out, server error
    │   ├── BadReply             the server answered something that is not a completion
    │   ├── Refused              the server refuses this one request; others may pass
    │   └── UnscriptedPrompt     a scripted model was asked what its script does not hold
    └── StorageError             results could not be written: disk full, no permission (exit code 1)

A message says what was asked, what was there, and what to do. An error is never turned into a score.
"""


class ICLError(Exception):
    """The root: catch this to catch everything that this project raises on purpose."""


class UserError(ICLError):
    """What was asked for cannot be done as asked."""


class TemplateError(UserError):
    """A template's text is not a template."""


class MissingSlot(TemplateError):
    """An example lacks a field that the template shows."""


class DataError(UserError):
    """A file, or a row of it, cannot be read; names file, line and field."""


class UnknownName(UserError):
    """No such name; names the nearest."""


class NotEnoughDemos(UserError):
    """More demonstrations were asked for than there are."""


class NotFitted(UserError):
    """A selector was asked before it was given its pool."""


class PromptTooLong(UserError):
    """The query alone, without demonstrations, exceeds the context."""


class Unsupported(UserError):
    """This backend cannot do what was asked."""


class RunMismatch(UserError):
    """The run folder holds another run, or one that is in progress."""


class Diverged(UserError):
    """A training's loss is not a number any more; what was kept before is good."""


class ModelError(ICLError):
    """The model's side failed."""


class Transient(ModelError):
    """A failure worth another try. `after` is the wait in seconds that the server asked for, if it did."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class BadReply(ModelError):
    """The server answered something that is not a completion."""


class Refused(ModelError):
    """The server refuses this one request, as a content filter does; others may pass."""


class UnscriptedPrompt(ModelError):
    """A scripted model was asked what its script does not hold."""


class StorageError(ICLError):
    """Results could not be written; what was written before is safe."""
