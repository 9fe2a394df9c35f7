"""Ensembles: attacks that are made of stages, each for the examples without success of those before."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from harness.attacks.base import Attack
from harness.attacks.classes import count_classes
from harness.attacks.passes import Passes
from harness.records.evidence import Access
from harness.system.lazy import torch
from harness.threat import ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn

MANY = 1000
"""Classes among which every stage can run."""


class Ensemble(Attack):
    """Base of the ensembles.

    A sweep runs the stages itself, so that each gets full batches of what the ones before left of the whole data set;
    `perturb` runs them one after another on one batch.
    """

    ACCESS: ClassVar[Access] = "ensemble"
    MARGIN: ClassVar[bool] = True
    STAGED: ClassVar[bool] = True

    @abstractmethod
    def stages(self, classes: int) -> tuple[Attack, ...]:
        """See `Attack.stages`."""

    def identity(self) -> dict[str, Any]:
        """See `Plugin.identity`; the code of its parts counts too, once it has changed."""
        versions = {type(part).__name__: part.VERSION for part in self.parts() if part.VERSION > 1}
        return {**super().identity(), **({"parts": versions} if versions else {})}

    def parts(self) -> tuple[Attack, ...]:
        """Returns all attacks whose code its numbers depend on."""
        return self.stages(MANY)

    def passes(self, classes: int) -> Passes | None:
        """See `Attack.passes`."""
        total = Passes(1)
        for stage in self.stages(classes):
            if (most := stage.passes(classes)) is None:
                return None
            total = total.and_also(most).and_also(Passes(1))
        return total

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.watcher import Watcher

        best, active = x.clone(), torch.arange(len(x), device=x.device)
        for stage in self.stages(count_classes(model, x, attack=self.name)):
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
