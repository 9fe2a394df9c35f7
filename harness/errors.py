"""The harness's exceptions: one base, one subclass for each stage that can go wrong."""

from collections.abc import Iterator
from contextlib import contextmanager


class HarnessError(Exception):
    """Something the user can act on: one or two lines naming place, expectation and finding."""


class SuiteError(HarnessError):
    """A suite file, an override or a plug-in specification is invalid."""


class DataError(HarnessError):
    """A data set is missing, incomplete or unreadable."""


class ModelError(HarnessError):
    """A model, or a file of weights, cannot be built or does not fit."""


class StoreError(HarnessError):
    """The step store is damaged or cannot be written."""


class StepFailed(HarnessError):
    """A step of the plan ended with an error; its traceback is kept in the results."""


def first_line(error: BaseException) -> str:
    """Returns the type of an exception and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]:.300}"


@contextmanager
def only_harness_errors(kind: type[HarnessError], place: str) -> Iterator[None]:
    """Turns whatever a caller's network or data raises into one line; what the harness itself raises stays as it is.

    Args:
        kind: The type of the error.
        place: What failed: "data[3]: reading it".
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:  # a caller's code may raise anything
        raise kind(f"{place} failed: {first_line(error)}") from error


@contextmanager
def naming(place: str, *kinds: type[HarnessError]) -> Iterator[None]:
    """Puts the place that it happened at before an error, which keeps its type.

    Args:
        place: What the message shall begin with: "suite.yaml: ", "dataset.root: ".
        kinds: The errors that lack it.
    """
    try:
        yield
    except kinds as error:
        raise type(error)(f"{place}{error}") from error


@contextmanager
def surviving_exits(what: str) -> Iterator[None]:
    """Turns `sys.exit` in a plug-in into an error: only a command line may end the program.

    Args:
        what: What is at work, for the message.

    Raises:
        HarnessError: if the block calls `sys.exit`.
    """
    try:
        yield
    except SystemExit as stop:
        raise HarnessError(f"{what}: expected a result, but sys.exit({stop.code!r}) was called") from stop
