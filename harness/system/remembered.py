"""Values of pure functions that a file keeps, so that a run that computes nothing need not import the library behind them."""

import contextlib
import importlib.metadata
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

ValueT = TypeVar("ValueT", float, list[float])
P = ParamSpec("P")
STATISTICS = ".statistics.json"
"""The intervals and tests of earlier runs in a results folder: scipy's import takes longer than a run of stored steps."""
VERSION = 1
"""Of the values in files: raised whenever a function that is remembered gives others, as a correction of it would."""
ENDS = 2
"""Numbers of a list: the ends of an interval."""
_known: dict[str, Any] = {}
"""Name and arguments of a call -> its value. A pure function has the same in every run with the same library."""


def remembered(function: Callable[P, ValueT]) -> Callable[P, ValueT]:
    """Makes a function of numbers compute each value once in a process, and not at all where a file has it.

    Args:
        function: Takes numbers and texts by position, and returns a float, or the two ends of an interval as a list.
    """

    @wraps(function)
    def known(*arguments: P.args, **named: P.kwargs) -> ValueT:
        call = f"{function.__name__}({', '.join(map(repr, arguments))})"
        if call not in _known:
            _known[call] = function(*arguments, **named)
        value: ValueT = _known[call]
        return value

    return known


@contextmanager
def remembering(path: Path, library: str) -> Iterator[None]:
    """Takes the values that a file has, and writes those that were computed beside them when the block ends.

    A file that is damaged, or of another version of the library or of the functions, is written anew; one that cannot be written
    is left out.

    Args:
        path: The file.
        library: The package that computes the values.
    """
    version = importlib.metadata.version(library)
    found = _read(path, library, version)
    _known.update(found)
    yield
    if new := {call: value for call, value in _known.items() if call not in found}:
        text = json.dumps({"version": VERSION, library: version, "values": dict(sorted({**found, **new}.items()))}, indent=0)
        with contextlib.suppress(OSError):
            part = path.with_name(f"{path.name}.{os.getpid()}")
            part.write_text(text, encoding="utf-8")
            part.replace(path)


def _read(path: Path, library: str, version: str) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        values = kept["values"] if (kept["version"], kept[library]) == (VERSION, version) else {}
        return {str(call): value for call, value in values.items() if _is_value(value)}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}


def _is_value(value: object) -> bool:
    """Returns whether a value is a number or the two ends of an interval, as functions that are remembered give."""
    numbers = value if isinstance(value, list) and len(value) == ENDS else [value]
    return all(isinstance(number, float) and math.isfinite(number) for number in numbers)
