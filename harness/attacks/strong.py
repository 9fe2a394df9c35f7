"""The strong attack: AutoAttack's standard ensemble with the original's budgets, each stage on what the ones before leave."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.classes import count_classes
from harness.attacks.passes import Passes
from harness.attacks.torchattacks.auto import APGDCE, APGDT, LINF_AND_L2, Square
from harness.attacks.torchattacks.minimum import FAB
from harness.attacks.watcher import Watcher
from harness.records.evidence import Access, Shortfall
from harness.threat import Norm, ThreatModel

STANDARD = {"steps": 100, "targets": 9, "fab_steps": 100, "queries": 5000}
"""Budgets of AutoAttack standard. Source: Croce and Hein 2020, https://arxiv.org/abs/2003.01690, section 6."""
FEWEST_CLASSES = 4
"""The targeted loss of APGD-T needs four logits; with fewer classes that stage is left out, as its authors advise."""


@ATTACKS.register
class Strong(Attack):
    """APGD-CE, APGD-T, FAB-T and Square, cheapest first, each on the examples that the ones before did not make adversarial.

    With its default budgets it is AutoAttack standard.

    Source: Croce and Hein 2020, https://arxiv.org/abs/2003.01690, section 6.
    """

    NORMS: ClassVar[frozenset[Norm]] = LINF_AND_L2
    ACCESS: ClassVar[Access] = "ensemble"
    MARGIN: ClassVar[bool] = True

    name: Literal["strong"] = "strong"
    steps: int = Field(default=STANDARD["steps"], ge=1)
    """Gradient steps of APGD-CE, and of APGD-T for each target class."""
    targets: int = Field(default=STANDARD["targets"], ge=1)
    """Wrong classes that APGD-T and FAB-T try, most likely first."""
    fab_steps: int = Field(default=STANDARD["fab_steps"], ge=1)
    """Steps of FAB-T for each target class."""
    queries: int = Field(default=STANDARD["queries"], ge=1)
    """Queries of Square."""

    def identity(self) -> dict[str, Any]:
        """See `Plugin.identity`; the code of its parts counts too, once it has changed."""
        versions = {part.__name__: part.VERSION for part in (APGDCE, APGDT, FAB, Square) if part.VERSION > 1}
        return {**super().identity(), **({"parts": versions} if versions else {})}

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

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        total = Passes(1)
        for stage in self._stages(classes):
            total = total.and_also(stage.passes(classes) or Passes(0)).and_also(Passes(1))
        return total

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        best, active = x.clone(), torch.arange(len(x), device=x.device)
        for stage in self._stages(count_classes(model, x, attack=self.name)):
            if isinstance(model, Watcher):
                model.begin(stage.name)
            found = stage.perturb(model, x[active], y[active], threat_model=threat_model, generator=generator)
            inside = threat_model.project(found, x[active])
            with torch.no_grad():
                success = model(inside).argmax(dim=1) != y[active]
            best[active[success]] = inside[success]
            active = active[~success]
            if not len(active):
                break
        return best

    def _stages(self, classes: int) -> Iterator[Attack]:
        yield APGDCE(steps=self.steps)
        if classes >= FEWEST_CLASSES:
            yield APGDT(steps=self.steps, targets=self.targets)
        yield FAB(steps=self.fab_steps, targets=self.targets)
        yield Square(queries=self.queries)
