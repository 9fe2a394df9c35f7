from typing import Literal

import pytest

from harness.errors import SuiteError
from harness.registry import Plugin, Registry


class Thing(Plugin):
    """Base of a family."""


class Small(Thing):
    """A small thing."""

    name: Literal["small"] = "small"
    size: int = 1


class Other(Thing):
    """Another thing of the same name."""

    name: Literal["small"] = "small"


@pytest.fixture
def things() -> Registry[Thing]:
    return Registry("things", {"large": "collections:OrderedDict"})


def test_registered_class_is_found_by_name(things: Registry[Thing]) -> None:
    assert things.register(Small) is Small
    assert things.get("small") is Small
    assert things.parse({"name": "small", "size": 3}) == Small(size=3)
    assert things.parse("small") == Small()
    assert things.parse(Small(size=2)).model_dump() == {"name": "small", "size": 2}


def test_names_are_listed_without_importing(things: Registry[Thing]) -> None:
    things.register(Small)
    assert things.names() == ["large", "small"]


def test_same_name_twice_is_an_error(things: Registry[Thing]) -> None:
    things.register(Small)
    with pytest.raises(SuiteError, match="taken twice"):
        things.register(Other)


def test_class_without_a_default_name_is_an_error(things: Registry[Thing]) -> None:
    with pytest.raises(SuiteError, match="name: Literal"):
        things.register(Thing)


def test_unknown_name_suggests_the_nearest(things: Registry[Thing]) -> None:
    things.register(Small)
    with pytest.raises(SuiteError, match="did you mean 'small'"):
        things.get("smal")
    with pytest.raises(SuiteError, match="known: large, small"):
        things.get("zzzz")


@pytest.mark.parametrize("value", [3, None, {}, {"name": 3}, ["small"]])
def test_value_of_another_form_is_refused(things: Registry[Thing], value: object) -> None:
    with pytest.raises(ValueError, match="expected a name from"):
        things.parse(value)
