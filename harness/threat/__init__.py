"""Threat models: the one home of norms, budgets and projections; `ball` has what needs no specification."""

from fractions import Fraction
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from harness.errors import SuiteError
from harness.spec import Eps, Spec, explain
from harness.threat.ball import L1_ROUNDING, TOLERANCE, Ball, Norm, largest_change

__all__ = [
    "L1_ROUNDING",
    "TOLERANCE",
    "Ball",
    "InvalidThreatModel",
    "Norm",
    "ThreatModel",
    "expect_pixel_budget",
    "largest_change",
]


def expect_pixel_budget(norm: Norm, eps: Fraction, *, where: str) -> None:
    """Refuses a Linf budget above 1, the whole pixel range: it is in units of [0,255], or a mistake.

    Raises:
        ValueError: if it is; begins with `where`.
    """
    if norm is Norm.LINF and eps > 1:
        raise ValueError(f'{where}: expected a budget <= 1 in pixel units of [0,1]; write "8/255", not 8; got {eps}')


class InvalidThreatModel(SuiteError, ValueError):
    """A field of a threat model is not valid; a `ValueError`, so that a specification that holds one names its own field."""


class ThreatModel(Spec, Ball):
    """What the attacker may do: stay within `eps` of the image in `norm`, and inside [0,1].

    Images are float tensors (N, C, H, W) in [0,1]; `eps` is in the same units.
    """

    norm: Norm = Norm.LINF
    """The norm of the perturbation."""
    eps: Eps = Field(default=Fraction(8, 255))
    """The budget: "8/255", kept exact; at most 1 for Linf."""
    targeted: bool = False
    """Whether the attacker must reach a chosen class instead of any wrong one."""

    def __init__(self, **fields: Any) -> None:
        """Checks the fields.

        Raises:
            InvalidThreatModel: if one is not valid; one line, where pydantic's own error has five.
        """
        try:
            super().__init__(**fields)
        except ValidationError as problem:
            raise InvalidThreatModel("; ".join(f"ThreatModel.{line}" for line in explain(problem))) from problem

    @model_validator(mode="after")
    def _linf_budget_fits_the_pixel_range(self) -> Self:
        expect_pixel_budget(self.norm, self.eps, where="eps")
        return self

    def with_eps(self, eps: Fraction | str) -> "ThreatModel":
        """Returns the same threat model with another budget."""
        return ThreatModel(norm=self.norm, eps=eps, targeted=self.targeted)
