"""Frozen, validated specifications: the base of suites and plug-ins, and their canonical form."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from harness.errors import HarnessError, SuiteError


class Spec(BaseModel):
    """Base of every specification: immutable, closed to unknown fields, and to NaN, which passes every bound."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def parse_eps(value: object) -> Fraction:
    """Reads a budget such as "8/255", "0.5/255", 0.03 or 1 as an exact, non-negative fraction.

    Raises:
        ValueError: if the value is no number or is negative.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        eps = value if isinstance(value, Fraction) else _quotient(str(value))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f'expected a budget like "8/255" or 0.03, got {value!r}') from error
    if eps < 0:
        raise ValueError(f"expected a budget >= 0, got {value!r}")
    return eps


def _quotient(text: str) -> Fraction:
    above, slash, below = text.partition("/")
    return Fraction(above.strip()) / Fraction(below.strip() if slash else "1")


Eps = Annotated[Fraction, BeforeValidator(parse_eps), PlainSerializer(str, return_type=str)]
"""A budget, kept exact: "8/255" in, "8/255" out."""


def canonical_json(value: object) -> str:
    """Returns the one JSON text of a value: sorted keys, no white space, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest_of(value: object) -> str:
    """Returns the sha256 of a value's canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


HIDDEN = "plugin"
"""A field of this name does not show in error paths: `attacks.pgd.steps`, not `attacks.pgd.plugin.steps`."""
COMPARISONS = {
    "greater than or equal to": "a number >=",
    "less than or equal to": "a number <=",
    "greater than": "a number >",
    "less than": "a number <",
}
SpecT = TypeVar("SpecT", bound=Spec)


def parse_spec(cls: type[SpecT], data: Mapping[str, Any], *, where: str, error: type[HarnessError] = SuiteError) -> SpecT:
    """Validates `data` as `cls`.

    Args:
        cls: The specification class.
        data: Field values, as read from a file or given by a caller.
        where: Named first in error messages, for example the suite file.
        error: The exception type to raise.

    Raises:
        HarnessError: of type `error`, one line a problem, each with its field path.
    """
    try:
        return cls.model_validate(data)
    except ValidationError as problem:
        raise error("\n".join(f"{where}: {line}" for line in explain(problem))) from problem


def explain(problem: ValidationError) -> list[str]:
    """Returns one line for each finding of a validation error: `path: expectation, got value`."""
    return [_explain_one(finding["loc"], finding["type"], finding["msg"], finding["input"]) for finding in problem.errors()]


def _explain_one(path: Sequence[int | str], kind: str, message: str, found: object) -> str:
    place = ".".join(str(part) for part in path if part != HIDDEN and not str(part).startswith("function-")) or "(top level)"
    if kind == "extra_forbidden":
        return f"{place}: unknown field"
    if kind == "missing":
        return f"{place}: required field is missing"
    if kind == "value_error":
        return f"{place}: {message.removeprefix('Value error, ')}"
    expected = message.removeprefix("Input should be ")
    for words, sign in COMPARISONS.items():
        expected = expected.replace(words, sign)
    return f"{place}: expected {expected}, got {found!r:.80}"
