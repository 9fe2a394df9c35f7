"""The harness's exceptions: one base, one subclass for each stage that can go wrong."""


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
