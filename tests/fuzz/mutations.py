"""Changed files: bytes of a good one, edited; and suites, whose values are replaced."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

TOKENS = (
    *(struct.pack("<q", value) for value in (0, -1, 1, 2**31, 2**32, 2**40, 2**62, -(2**63))),
    *(struct.pack("<d", value) for value in (float("nan"), float("inf"), 1e300)),
    *(
        b"\x00",
        b"\xff" * 8,
        b"NaN",
        b"inf",
        b"-1",
        b"1e999",
        b"1" * 400,
        b",",
        b"\n",
        b'"',
        b"{",
        b"[" * 200,
        b"}",
        b"null",
        b"\xc3\x28",
    ),
    *(b"../../x", b"/dev/zero", b"true", b"\\ud800", b"1/0", b"8/255"),
)
"""What tends to hurt a reader, put anywhere."""
PLACE = st.integers(0, 2**20)
EDIT = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(1, 255)),
    st.tuples(st.just("put"), PLACE, st.one_of(st.sampled_from(TOKENS), st.binary(max_size=12))),
    st.tuples(st.just("insert"), PLACE, st.one_of(st.sampled_from(TOKENS), st.binary(max_size=12))),
    st.tuples(st.just("cut"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("end"), PLACE, st.just(0)),
    st.tuples(st.just("repeat"), PLACE, st.integers(1, 200)),
)


def changed(good: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Gives files that are one of the good ones after up to eight edits."""
    return st.builds(_edited, st.sampled_from(good), st.lists(EDIT, min_size=1, max_size=8))


def _edited(content: bytes, edits: Sequence[tuple[str, int, Any]]) -> bytes:
    for kind, place, value in edits:
        if not content:
            return content
        at = place * 7919 % len(content)
        match kind:
            case "flip":
                content = content[:at] + bytes([content[at] ^ value]) + content[at + 1 :]
            case "put":
                content = content[:at] + value + content[at + len(value) :]
            case "insert":
                content = content[:at] + value + content[at:]
            case "cut":
                content = content[:at] + content[at + value :]
            case "end":
                content = content[:at]
            case "repeat":
                content = content[:at] + content[at : at + value] * 3 + content[at:]
    return content


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([-1, 0, 1, 255, 10**6, 10**18]),
    st.floats(allow_nan=True),
    st.text(max_size=12),
    st.sampled_from(
        ["8/255", "1/0", "1e9999", "pgd", "${HOME}", "../..", "~x", "!!int _", "\x00", "*a", "a" * 3000, "2001-01-01", "nan"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.one_of(st.text(max_size=6), st.sampled_from(["name", "eps", "steps"])), inner, max_size=3)
    ),
    max_leaves=6,
)


def other_values(good: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Gives JSON values that are one of the good ones with up to four of their parts replaced, removed or doubled."""
    return st.builds(
        _replaced,
        st.sampled_from(good),
        st.lists(st.tuples(st.lists(PLACE, min_size=1, max_size=6), VALUES, st.integers(0, 3)), min_size=1, max_size=4),
    )


def _replaced(value: Any, changes: Sequence[tuple[list[int], Any, int]]) -> Any:
    for path, new, kind in changes:
        value = _with(value, path, new, kind)
    return value


def _with(value: Any, path: list[int], new: Any, kind: int) -> Any:
    """Returns a value with a part of it changed; the numbers of the path choose the part."""
    if not path or not isinstance(value, dict | list) or not value:
        return new
    change: Callable[[Any], Any] = lambda inner: _with(inner, path[1:], new, kind)  # noqa: E731
    if isinstance(value, list):
        at = path[0] % len(value)
        return [*value[:at], *([] if kind == 3 and len(path) == 1 else [change(value[at])]), *value[at + 1 :]]
    name = list(value)[path[0] % len(value)]
    if len(path) == 1 and kind == 3:
        return {key: item for key, item in value.items() if key != name}
    if len(path) == 1 and kind == 2 and isinstance(new, str):
        return {**value, new: value[name]}
    return {**value, name: change(value[name])}
