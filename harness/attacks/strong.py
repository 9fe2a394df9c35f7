"""The strong attack: AutoAttack's standard ensemble with the original's budgets, each stage on what the ones before leave."""

from typing import ClassVar, Literal

from pydantic import Field

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.ensemble import Ensemble
from harness.attacks.torchattacks.auto import APGDCE, APGDT, LINF_AND_L2, Square
from harness.attacks.torchattacks.minimum import FAB
from harness.records.evidence import Shortfall
from harness.threat import Norm

STANDARD = {"steps": 100, "targets": 9, "fab_steps": 100, "queries": 5000}
"""Budgets of AutoAttack standard. Source: Croce and Hein 2020, https://arxiv.org/abs/2003.01690, section 6."""
FEWEST_CLASSES = 4
"""The targeted loss of APGD-T needs four logits; with fewer classes that stage is left out, as its authors advise."""


@ATTACKS.register
class Strong(Ensemble):
    """APGD-CE, APGD-T, FAB-T and Square, cheapest first, each on the examples that the ones before did not make adversarial.

    With its default budgets it is AutoAttack standard. Its stages are not all run by example, so it is not either.

    Source: Croce and Hein 2020, https://arxiv.org/abs/2003.01690, section 6.
    """

    VERSION: ClassVar[int] = 2
    NORMS: ClassVar[frozenset[Norm]] = LINF_AND_L2

    name: Literal["strong"] = "strong"
    steps: int = Field(default=STANDARD["steps"], ge=1)
    """Gradient steps of APGD-CE, and of APGD-T for each target class."""
    targets: int = Field(default=STANDARD["targets"], ge=1)
    """Wrong classes that APGD-T and FAB-T try, most likely first."""
    fab_steps: int = Field(default=STANDARD["fab_steps"], ge=1)
    """Steps of FAB-T for each target class."""
    queries: int = Field(default=STANDARD["queries"], ge=1)
    """Queries of Square."""

    def conclusive(self, classes: int) -> bool:
        """Whether all stages run, and no budget is smaller than the original's."""
        return self.shortfall(classes) is None

    def shortfall(self, classes: int) -> Shortfall | None:
        """See `Attack.shortfall`."""
        if any(getattr(self, name) < budget for name, budget in STANDARD.items()):
            return "budgets"
        return "classes" if classes < FEWEST_CLASSES else None

    @property
    def title(self) -> str:
        """What the ensemble may be called: AutoAttack only where it is AutoAttack."""
        exact = all(getattr(self, name) == budget for name, budget in STANDARD.items())
        return "AutoAttack standard" if exact else "AutoAttack's parts with other budgets"

    def stages(self, classes: int) -> tuple[Attack, ...]:
        """See `Attack.stages`."""
        targeted = (APGDT(steps=self.steps, targets=self.targets),) if classes >= FEWEST_CLASSES else ()
        fab = FAB(steps=self.fab_steps, targets=self.targets)
        return APGDCE(steps=self.steps), *targeted, fab, Square(queries=self.queries)
