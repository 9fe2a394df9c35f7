"""Frozen, validated specifications: the base of suites and plug-ins, and their canonical form."""

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from harness.errors import HarnessError, SuiteError
from harness.system.messages import LONGEST_VALUE, cut, shown

HIDDEN = "plugin"
"""A field of this name does not show in error paths: `attacks.pgd.steps`, not `attacks.pgd.plugin.steps`."""
UNKNOWN_FIELD = "extra_forbidden"
"""Pydantic's name of the error."""


LONGEST_BUDGET = 100
"""Characters of a budget."""
LARGEST_EXPONENT = 100
"""Of a budget such as "1e-3", on either side of 0; a float can hold it."""
EXPONENT = re.compile(r"[eE][-+]?([\d_]+)")


LATER: dict[str, JsonValue] = {"later": True}
"""Marks a field (`json_schema_extra`) that a specification gained after results were stored; see `digest_fields`."""


class Spec(BaseModel):
    """Base of every specification: immutable, closed to unknown fields, and to NaN, which passes every bound."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _name_known_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Adds to the error of an unknown field which ones there are."""
        try:
            return handler(value)
        except ValidationError as problem:
            if not any(finding["type"] == UNKNOWN_FIELD for finding in problem.errors()):
                raise
            findings = [_with_known_fields(finding, cls.model_fields) for finding in problem.errors()]
            raise ValidationError.from_exception_data(problem.title, findings) from problem

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any) -> Any:
        """Refuses what pydantic would take for 1 or 0, such as YAML's yes, on and off."""
        given = value if isinstance(value, Mapping) else {}
        wrong = [name for name in _number_fields(cls) if name in given and _holds_truth_value(given[name])]
        findings = [_no_number(name, given[name]) for name in wrong]
        if findings:
            raise ValidationError.from_exception_data(cls.__name__, findings)
        return value


def _with_known_fields(finding: ErrorDetails, fields: Iterable[str]) -> InitErrorDetails:
    """Returns a finding that lists known fields, if it is about an unknown one of this level or of the hidden one below."""
    known = finding.get("ctx", {}).get("known", ())
    if finding["type"] == UNKNOWN_FIELD and finding["loc"][:-1] in ((), (HIDDEN,)):
        known = (*known, *(field for field in fields if field != HIDDEN))
    error = PydanticCustomError(finding["type"], finding["msg"], {"known": known})
    return InitErrorDetails(type=error, loc=finding["loc"], input=finding["input"])


def _no_number(name: str, value: object) -> InitErrorDetails:
    message = f"expected a number, got {shown(value)}; YAML reads yes and on as True, no and off as False"
    return InitErrorDetails(type=PydanticCustomError("value_error", message), loc=(name,), input=value)


def _holds_truth_value(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_truth_value, value)))


@cache
def _number_fields(cls: type[Spec]) -> tuple[str, ...]:
    """Returns the fields of a specification that hold numbers; found once, as a grid has thousands of its kind."""
    return tuple(name for name, field in cls.model_fields.items() if _is_of_numbers(field.annotation))


def _is_of_numbers(annotation: object) -> bool:
    """Tells whether a field's type has numbers in it and nothing that a truth value may be given for."""
    types = set(_types_in(annotation))
    return bool(types & {int, float}) and not types & {bool, Any}


def _types_in(annotation: object) -> Iterator[object]:
    yield from (found for inner in get_args(annotation) for found in _types_in(inner))
    if annotation is Any or isinstance(annotation, type):
        yield annotation


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
        raise ValueError(f'expected a budget like "8/255" or 0.03, got {shown(value)}') from error
    if eps < 0:
        raise ValueError(f"expected a budget >= 0, got {shown(value)}")
    return eps


def _quotient(text: str) -> Fraction:
    """Reads a number or a quotient of two; "1e99999999" would be written out with all its digits."""
    if len(text) > LONGEST_BUDGET or any(int(power) > LARGEST_EXPONENT for power in EXPONENT.findall(text)):
        raise ValueError(text)
    above, slash, below = text.partition("/")
    return Fraction(above.strip()) / Fraction(below.strip() if slash else "1")


Eps = Annotated[Fraction, BeforeValidator(parse_eps), PlainSerializer(str, return_type=str)]
"""A budget, kept exact: "8/255" in, "8/255" out."""


def canonical_json(value: object) -> str:
    """Returns the one JSON text of a value: sorted keys, no white space, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest_fields(spec: Spec, *, exclude: Collection[str] = ()) -> dict[str, Any]:
    """Returns the fields of a specification as digests take them, in plain JSON values.

    A field marked `LATER` is left out while it has its default, which is what was done before there was a choice: results
    from then stay valid.

    Args:
        spec: The specification; those in its fields are treated alike.
        exclude: Fields that are in no digest.
    """
    fields = spec.model_dump(mode="json", exclude=set(exclude))
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if field.json_schema_extra == LATER and value == field.default:
            fields.pop(name, None)
        elif name in fields and isinstance(value, Spec) and type(value) is field.annotation:
            fields[name] = digest_fields(value)
    return fields


def digest_of(value: object) -> str:
    """Returns the sha256 of a value's canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


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
    findings = problem.errors()
    places = [finding["loc"] for finding in findings]
    return [_explain_one(finding) for finding in findings if not _follows(finding, places)]


def _follows(finding: ErrorDetails, places: Iterable[tuple[int | str, ...]]) -> bool:
    """Tells whether a list is too short only because items of it are refused, each with a finding of its own."""
    place = finding["loc"]
    return finding["type"] == "too_short" and any(other[:-1] == place for other in places if other)


def _explain_one(finding: ErrorDetails) -> str:
    path = [cut(str(part), LONGEST_VALUE) for part in finding["loc"] if part != HIDDEN and not str(part).startswith("function-")]
    place, kind, message = ".".join(path), finding["type"], finding["msg"]
    if kind == UNKNOWN_FIELD:
        return f"{place}: unknown field{suggestion(path[-1], finding.get('ctx', {}).get('known', ()))}"
    if kind == "missing":
        return f"{place}: required field is missing"
    if kind == "value_error":  # that of a whole suite names the place itself
        return f"{place}: ".removeprefix(": ") + message.removeprefix("Value error, ")
    expected = message.removeprefix("Input should be ")
    for words, sign in COMPARISONS.items():
        expected = expected.replace(words, sign)
    return f"{place or '(top level)'}: expected {expected}, got {shown(finding['input'])}"


def suggestion(name: str, known: Collection[str]) -> str:
    """Returns the end of an error about an unknown name: the nearest ones that are known, or all of them."""
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if nearest:
        return f"; did you mean {' or '.join(map(repr, nearest))}?"
    return f"; known: {', '.join(known)}" if known else ""
