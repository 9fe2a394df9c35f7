"""Suites: which models, attacks and budgets make up a grid, and what a run is expected to find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from harness.errors import SuiteError
from harness.spec import parse_spec
from harness.suites.base import BaseSuite
from harness.suites.checks import check_parts
from harness.suites.extent import check_extent
from harness.suites.models import is_module
from harness.suites.requirement_checks import check_requirements

if TYPE_CHECKING:
    from torch import nn


class Suite(BaseSuite):
    """A grid of models x attacks x budgets on one data set, whose parts fit each other."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        check_parts(self)
        check_extent(self)
        check_requirements(self)
        return self


def with_models(suite: Suite, models: Mapping[str, nn.Module]) -> Suite:
    """Returns a suite with networks in memory as finished models: under new labels, or in place of the suite's own.

    Args:
        suite: The suite.
        models: Label -> network: images (N, 3, H, W) in [0,1] to logits (N, K), in the order of the data's classes.

    Raises:
        SuiteError: if one is no network, or a part of the suite refers to what such a model has not, such as a poison.
    """
    for label, model in models.items():
        if not is_module(model):
            raise SuiteError(f"models.{label}: expected a torch.nn.Module, got {type(model).__name__}")
    fields = {name: getattr(suite, name) for name in type(suite).model_fields}
    return parse_spec(Suite, {**fields, "models": {**suite.models, **models}}, where=suite.name) if models else suite


def suite_json(suite: BaseSuite) -> dict[str, Any]:
    """Returns the suite as plain JSON values, with every field of every plug-in."""
    return suite.model_dump(mode="json")
