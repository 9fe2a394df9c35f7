"""A cheap ensemble whose result is audited: AutoAttack standard attacks a random sample of what it leaves."""

from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, Literal, Self

from pydantic import Field

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.ensemble import MANY, Ensemble
from harness.attacks.malt import MALT
from harness.attacks.margin import PMA
from harness.attacks.strong import FEWEST_CLASSES, Strong
from harness.records.evidence import Shortfall
from harness.spec import Eps
from harness.threat import Norm


@ATTACKS.register
class Audited(Ensemble):
    """PMA, then MALT, then an audit by AutoAttack standard with the original's budgets.

    A sweep runs the audit at every budget, see `harness.evaluation.audit`: all stages of the standard attack a random sample of
    the examples without success. A stage that succeeds on any is run on all of them, and the audit is repeated. As the sample is
    drawn from all examples, it is not run by example.

    Source: Xie et al. 2024, https://arxiv.org/abs/2411.15210 (PMA); Melamed et al. 2024, https://arxiv.org/abs/2407.02240 (MALT);
        Croce and Hein 2020, https://arxiv.org/abs/2003.01690 (AutoAttack standard).
    """

    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF, Norm.L2})

    name: Literal["audited"] = "audited"
    margin_steps: int = Field(default=20, ge=1)
    """Gradient steps of PMA."""
    malt_steps: int = Field(default=20, ge=1)
    """Gradient steps of MALT for each target class."""
    targets: int = Field(default=3, ge=1)
    """Wrong classes that MALT tries, nearest first."""
    candidates: int = Field(default=9, ge=1)
    """Wrong classes that MALT puts in order, most likely first."""
    audit: int = Field(default=64, ge=0)
    """Size of the random sample that is audited at each budget, at most all examples without success; 0 for no audit."""

    audit_at: tuple[Eps, ...] = ()
    """Budgets of the sweep at which it is audited; all where none is named."""

    def check_budgets(self, budgets: Sequence[Fraction]) -> None:
        """See `Attack.check_budgets`."""
        for eps in self.audit_at:
            if eps not in budgets:
                raise ValueError(f"audit_at: expected budgets of the sweep, {', '.join(map(str, budgets))}; got {eps}")

    def sample_of_audit(self, eps: Fraction) -> int:
        """See `Attack.sample_of_audit`."""
        return self.audit if not self.audit_at or eps in self.audit_at else 0

    def at(self, eps: Fraction, *, audited: bool) -> Self:
        """See `Attack.at`."""
        return self.model_copy(update={"audit": self.sample_of_audit(eps) if audited else 0})

    def stages(self, classes: int) -> tuple[Attack, ...]:
        """See `Attack.stages`."""
        malt = MALT(steps=self.malt_steps, targets=self.targets, candidates=self.candidates)
        return PMA(steps=self.margin_steps), malt

    def parts(self) -> tuple[Attack, ...]:
        """See `Ensemble.parts`."""
        return *self.stages(MANY), *Strong().parts()

    def conclusive(self, classes: int) -> bool:
        """See `Attack.conclusive`."""
        return self.shortfall(classes) is None

    def shortfall(self, classes: int) -> Shortfall | None:
        """See `Attack.shortfall`; what the ensemble misses, the audit finds, so that its own budgets are no matter of this."""
        if not self.audit:
            return "audit"
        return "classes" if classes < FEWEST_CLASSES else None
