"""The settings of a sweep: one attack over rising budgets, and how it is run."""

import itertools
from dataclasses import dataclass

from harness.attacks.base import Attack
from harness.errors import HarnessError
from harness.models.layout import AS_GIVEN, Inference
from harness.records import Protocol
from harness.threat import ThreatModel


@dataclass(frozen=True)
class SweepSettings:
    """How one attack is run over rising budgets: all that changes its numbers, but for the network and the examples."""

    attack: Attack
    """Where it seeks minimum norms it runs once, and is judged at every budget."""
    threat_models: tuple[ThreatModel, ...]
    """The budgets, rising, of one norm."""
    protocol: Protocol = "nested"
    """"nested": examples without success go on to the next budget. "independent": every budget from scratch. "bisect": the
    smallest budget with a success is searched by halving; it needs `best_of_iterates`."""
    best_of_iterates: bool = True
    """Whether any iterate of the attack counts, and an example is left alone once one is a success. Without it the attack's
    returned image is judged; with the independent protocol that is what the library itself gives, bit for bit."""
    seed: int = 0
    """Seeds every random choice."""
    inference: Inference = Inference()  # noqa: RUF009 - frozen
    """The form of the network that the attack differentiates; see `form`."""
    target_class: int | None = None
    """Index of the wanted class, required where the threat models are targeted; its own examples are not attacked."""
    by_example: bool = False
    """Whether what becomes of an example depends on no other one: every random choice is keyed by its content hash, and all
    passes have the size of a full batch. Only of attacks that keep examples apart, see `Attack.keeps_examples_apart`."""

    @property
    def form(self) -> Inference:
        """The form of the network that is asked for: without `best_of_iterates` always the network as given."""
        return self.inference if self.best_of_iterates else AS_GIVEN

    def sample_of_audit(self, level: int) -> int:
        """Returns on how many examples without success the attack is audited at the budget of that position.

        Without best-of-iterates an ensemble is run as a library would run it, and there is no audit.
        """
        return self.attack.sample_of_audit(self.threat_models[level].eps) if self.best_of_iterates else 0

    def can_be_by_example(self) -> bool:
        """Returns whether attack and protocol keep the examples apart; bisect learns from those before."""
        apart = self.attack.keeps_examples_apart(self.threat_models[0].norm)
        return apart and self.best_of_iterates and self.protocol != "bisect"

    def check(self) -> None:
        """Does nothing if the settings fit each other.

        Raises:
            HarnessError: if the budgets do not rise or differ in norm, the target class is missing, the protocol does not fit,
                or the attack cannot run under these threat models.
        """
        if self.protocol == "bisect" and not self.best_of_iterates:
            raise HarnessError("protocol: expected nested or independent where best_of_iterates is false, got bisect")
        threats = self.threat_models
        if self.by_example and not self.can_be_by_example():
            raise HarnessError(f"by_example: expected an attack and a protocol that keep examples apart, got {self.attack.name}")
        if len({(threat.norm, threat.targeted) for threat in threats}) != 1:
            raise HarnessError("threat_models: expected one or more budgets of the same norm, all targeted or none")
        budgets = [threat.eps for threat in threats]
        if any(left >= right for left, right in itertools.pairwise(budgets)):
            raise HarnessError(f"threat_models: expected rising budgets, got {', '.join(map(str, budgets))}")
        if threats[0].targeted != (self.target_class is not None):
            wanted = "expected one where the threat model is targeted, none else"
            raise HarnessError(f"target_class: {wanted}; got {self.target_class}")
        for threat in threats:
            if reason := self.attack.supports(threat):
                raise HarnessError(f"attacks.{self.attack.name}: {reason}")
