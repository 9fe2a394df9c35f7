import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from harness.errors import SuiteError
from harness.spec import LATER, Eps, Spec, canonical_json, digest_fields, digest_of, parse_eps, parse_spec

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Inner(Spec):
    """A specification inside another."""

    steps: int = Field(ge=1)
    """Steps."""


class Outer(Spec):
    """A specification."""

    eps: Eps
    """Budget."""
    inner: dict[str, Inner] = Field(default_factory=dict)
    """More."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8/255", Fraction(8, 255)), ("0.5/255", Fraction(1, 510)), (0.03, Fraction(3, 100)), (1, Fraction(1)), ("0", Fraction(0))],
)
def test_budget_is_kept_exact(text: object, expected: Fraction) -> None:
    assert parse_eps(text) == expected


@pytest.mark.parametrize("text", ["-1/255", "eight", "1/0", None, True, "", float("nan"), float("inf")])
def test_budget_that_is_no_number_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a budget"):
        parse_eps(text)


@given(st.fractions(min_value=0, max_value=1))
def test_budget_survives_json(eps: Fraction) -> None:
    assert Outer.model_validate_json(Outer(eps=eps).model_dump_json()).eps == eps


@given(st.dictionaries(st.text(), JSON))
def test_digest_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    reversed_value = dict(reversed(list(value.items())))
    assert digest_of(value) == digest_of(reversed_value)


@given(JSON, JSON)
def test_digest_differs_where_the_json_differs(first: object, second: object) -> None:
    assert (digest_of(first) == digest_of(second)) == (canonical_json(first) == canonical_json(second))


@given(JSON)
def test_canonical_json_is_json(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


def test_digest_of_a_known_value_stays_the_same() -> None:
    assert digest_of({"b": [1, 2.5, None], "a": "8/255"}) == "768222798b885076ce2065e305728639297ae03eabf2c049406607bc92a71e03"


def test_error_names_place_path_expectation_and_finding() -> None:
    with pytest.raises(SuiteError) as caught:
        parse_spec(Outer, {"eps": "8/255", "inner": {"pgd": {"steps": 0}}, "color": 1}, where="x.yaml")
    lines = str(caught.value).splitlines()
    assert lines == ["x.yaml: inner.pgd.steps: expected a number >= 1, got 0", "x.yaml: color: unknown field; known: eps, inner"]


def test_unknown_field_that_is_nearly_a_known_one_suggests_it() -> None:
    with pytest.raises(SuiteError, match=r"x.yaml: inner.pgd.stepz: unknown field; did you mean 'steps'\?"):
        parse_spec(Outer, {"eps": "8/255", "inner": {"pgd": {"steps": 1, "stepz": 1}}}, where="x.yaml")


class Mixed(Spec):
    """A specification with numbers and truth values."""

    count: int | None = None
    """A number."""
    shares: tuple[float, ...] = ()
    """Numbers."""
    switch: bool = False
    """A truth value."""
    anything: dict[str, Any] = Field(default_factory=dict)
    """Either."""


@pytest.mark.parametrize("fields", [{"count": True}, {"shares": [0.5, False]}])
def test_truth_value_is_no_number(fields: dict[str, object]) -> None:
    with pytest.raises(SuiteError, match="expected a number, got"):
        parse_spec(Mixed, fields, where="x.yaml")


def test_truth_value_is_taken_where_one_is_meant() -> None:
    fields = {"count": 1, "shares": [1, 0], "switch": True, "anything": {"pretrained": True}}
    assert parse_spec(Mixed, fields, where="x.yaml").model_dump() == {**fields, "shares": (1.0, 0.0)}


class GrownPart(Spec):
    old: int = 1
    new: int = Field(default=2, json_schema_extra=LATER)


class Grown(Spec):
    inner: GrownPart = GrownPart()
    place: str = "here"
    late: str = Field(default="usual", json_schema_extra=LATER)


def test_fields_that_came_later_enter_a_digest_only_where_they_differ() -> None:
    assert digest_fields(Grown(), exclude={"place"}) == {"inner": {"old": 1}}
    changed = Grown(inner=GrownPart(new=3), late="other")
    assert digest_fields(changed) == {"inner": {"old": 1, "new": 3}, "place": "here", "late": "other"}
