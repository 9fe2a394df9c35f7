"""The names that stand in a suite file: those that it gives its parts, and those of conditions."""

from typing import Annotated

from pydantic import AfterValidator, Field

from harness.conditions import OF_POISONED_MODELS

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
"""A name in a suite file: letters, digits, "_" and "-"."""


def _of_model(name: str) -> str:
    if name not in OF_POISONED_MODELS:
        raise ValueError(f"expected one of {', '.join(OF_POISONED_MODELS)}, got {name!r}")
    return name


ConditionOfModel = Annotated[str, AfterValidator(_of_model)]
"""The condition of a model as it is, or of what poisoned it."""
