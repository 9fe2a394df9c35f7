"""Suites: which models, attacks and budgets make up a grid, and what a run is expected to find."""

from typing import Any, Self

from pydantic import model_validator

from harness.suites.base import BaseSuite
from harness.suites.checks import check_parts
from harness.suites.extent import check_extent
from harness.suites.requirement_checks import check_requirements


class Suite(BaseSuite):
    """A grid of models x attacks x budgets on one data set, whose parts fit each other."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        check_parts(self)
        check_extent(self)
        check_requirements(self)
        return self


def suite_json(suite: BaseSuite) -> dict[str, Any]:
    """Returns the suite as plain JSON values, with every field of every plug-in."""
    return suite.model_dump(mode="json")
