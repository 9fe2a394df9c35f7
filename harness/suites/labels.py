"""The names that a suite file gives its parts."""

from typing import Annotated

from pydantic import Field

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
"""A name in a suite file: letters, digits, "_" and "-"."""
