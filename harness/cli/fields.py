"""The fields of a specification in words: type, default, unit and description."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from enum import Enum
from fractions import Fraction
from functools import cache
from itertools import pairwise
from textwrap import dedent
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from harness.spec import Spec

PIXELS = "pixel units of [0,1]"
UNITS: Mapping[str, str] = {
    **dict.fromkeys(("eps", "audit_at", "alpha", "value", "mean", "std"), PIXELS),
    **dict.fromkeys(("resolution", "margin", "size"), "pixels"),
    **dict.fromkeys(("epochs", "warmup_epochs", "patience", "validate_every"), "epochs"),
    **dict.fromkeys(("steps", "fab_steps", "validation_steps", "search_steps", "margin_steps", "malt_steps"), "steps"),
    **dict.fromkeys(("batch_size", "micro_batch", "overlays", "n_targets"), "images"),
    **dict.fromkeys(("test", "validation", "p_init", "rho", "clean_share", "size_threshold"), "share"),
    **dict.fromkeys(("label_smoothing", "distil", "expected_rate", "false_alarm_rate", "overshoot"), "share"),
    **dict.fromkeys(("opacity", "watermark", "crop", "translation", "scale", "brightness", "contrast"), "share"),
    **dict.fromkeys(("saturation", "white_balance", "alpha_max"), "share"),
    "alpha_relative": "share of eps",
    "awp": "share of a weight tensor's norm",
    "rotation": "degrees",
    "queries": "queries",
    **dict.fromkeys(("targets", "candidates"), "classes"),
    "audit": "examples",
    "restarts": "runs",
    "eot_iter": "gradients",
    "components": "components",
    "multiplier": "expected_rate",
    "kappa": "logits",
    "clip_norm": "norm of the gradient",
    "detail": "times the resolution",
    "qualities": "Pillow's quality",
}
"""Field -> unit: what a name means is the same in every plug-in. One of another package may say
`Field(json_schema_extra={"unit": ...})` instead."""
MAPPING = "mapping"
NO_UNIT = "-"
"""Unit of a number that has none."""
WORDS: Mapping[object, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    Fraction: 'number or "8/255"',
    type(None): "null",
    Any: "anything",
}
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


class FieldRow(NamedTuple):
    """What `harness list FAMILY NAME` says of a field."""

    field: str
    type: str
    default: str
    unit: str
    meaning: str


def field_rows(spec: type[Spec], *, below: str = "") -> Iterator[FieldRow]:
    """Yields a row for each field of a specification, and below it those of the specifications that it takes.

    Args:
        spec: The class.
        below: What stands before the names, such as "optimiser.".
    """
    for name, field in spec.model_fields.items():
        if name == "name" and not below:
            continue
        said = " ".join((field.description or said_below(spec, name)).split())
        yield FieldRow(below + name, type_in_words(field), _default(field), _unit(name, field), said)
        for inner in _specs_in(field.annotation):
            kind = inner.model_fields.get("kind")
            yield from field_rows(inner, below=f"{below}{name}." if kind is None else f"{below}{name}[{kind.default}].")


def said_below(spec: type[Spec], name: str) -> str:
    """Returns the text that stands below a field in its class; pydantic would look it up whenever a class is imported."""
    owner = next((kind for kind in spec.__mro__ if name in vars(kind).get("__annotations__", {})), None)
    return "" if owner is None else _texts_of(owner).get(name, "")


@cache
def _texts_of(kind: type) -> dict[str, str]:
    """Returns field -> the text below it, of the fields that a class has of its own."""
    try:
        body = ast.parse(dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError, SyntaxError):  # a class without a file
        return {}
    if not isinstance(body, ast.ClassDef):
        return {}
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def type_in_words(field: FieldInfo) -> str:
    """Returns the type of a field, with its bounds, as a suite file writes it."""
    bounds = [f"{sign} {getattr(mark, key)}" for mark in field.metadata for key, sign in BOUNDS.items() if hasattr(mark, key)]
    words, null, _ = _words(field.annotation).partition(" or null")
    return " ".join([words, " and ".join(bounds)]).strip() + null


def _words(annotation: object) -> str:
    origin = get_origin(annotation)
    if origin is not None:
        return _words_of_several(origin, get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(member.value) for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return MAPPING
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _words_of_several(origin: object, arguments: tuple[Any, ...]) -> str:
    if origin is Literal:
        return " | ".join(str(value.value if isinstance(value, Enum) else value) for value in arguments)
    if origin in (dict, Mapping):
        return MAPPING
    inner = " or ".join(
        dict.fromkeys(_words(argument) for argument in arguments if isinstance(argument, type) or get_origin(argument))
    )
    if origin is Annotated:
        return _words(arguments[0])
    if origin is tuple:
        return f"list of {inner}" if Ellipsis in arguments else f"list of {len(arguments)} x {inner}"
    return inner


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Spec):
        return "as below"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value.value if isinstance(value, Enum) else value)


def _unit(name: str, field: FieldInfo) -> str:
    if isinstance(field.json_schema_extra, dict) and "unit" in field.json_schema_extra:
        return str(field.json_schema_extra["unit"])
    return UNITS.get(name, NO_UNIT) if _is_number(field.annotation) else ""


def _is_number(annotation: object) -> bool:
    arguments = get_args(annotation)
    return annotation in (int, float, Fraction) or (get_origin(annotation) is not Literal and any(map(_is_number, arguments)))


def _specs_in(annotation: object) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for argument in get_args(annotation):
        yield from _specs_in(argument)
