"""What attacks with a fixed step size share: how many steps, and how large at each budget."""

from fractions import Fraction
from typing import ClassVar

from pydantic import Field

from harness.attacks.base import Attack
from harness.attacks.passes import Passes
from harness.spec import Eps
from harness.threat import ThreatModel


class Stepwise(Attack):
    """Base of the attacks that take a number of gradient steps of a given size."""

    TARGETED: ClassVar[bool] = True

    steps: int = Field(default=10, ge=1)
    """Number of gradient steps."""
    alpha: Eps | None = Field(default=None, gt=0)
    """Step size in pixel units; by default a share of the budget, see `alpha_relative`."""
    alpha_relative: Eps = Field(default=Fraction(1, 4), gt=0)
    """Step size as a share of the budget; not used where `alpha` is given."""

    def step_size(self, threat_model: ThreatModel) -> float:
        """Returns `alpha`, or the share `alpha_relative` of the budget."""
        return float(self.alpha if self.alpha is not None else self.alpha_relative * threat_model.eps)

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(self.steps, self.steps)
