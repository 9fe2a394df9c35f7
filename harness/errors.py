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
