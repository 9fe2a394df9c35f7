"""What an attack plug-in writes: a specification and `perturb`. The frame around it judges."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from harness.attacks.passes import Passes
from harness.records.evidence import Access, Shortfall
from harness.registry import Plugin, Registry
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    import torch
    from torch import Tensor, nn


class Attack(Plugin, ABC):
    """Base of the attack plug-ins.

    A subclass computes perturbed images and nothing else: `harness.attacks.frame` measures, projects and clips
    them, predicts again, counts passes and restores the model; no attack's own claim of success is used.
    """

    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})
    """The norms the attack knows."""
    ACCESS: ClassVar[Access] = "iterative"
    """What the attack uses of the model."""
    TARGETED: ClassVar[bool] = False
    """Whether the attack has a targeted mode."""
    MINIMUM_NORM: ClassVar[bool] = False
    """Whether the attack seeks each example's smallest perturbation and ignores the budget."""
    LEAST_CLASSES: ClassVar[int] = 2
    """Number of logits that its loss needs."""
    RETURNS_LAST: ClassVar[bool] = False
    """Whether `perturb` returns the last iterate also of examples without success; else the frame keeps one itself
    where it must hand over the attack's own images."""
    MARGIN: ClassVar[bool] = False
    """Whether a loss of its is a ratio or the sign of differences between logits: a network that ends in a sigmoid weakens the
    cross-entropy, and not such a loss."""
    STAGED: ClassVar[bool] = False
    """Whether it is an ensemble, whose `stages` a sweep runs one by one."""
    RESTARTS_INSIDE: ClassVar[bool] = False
    """Whether `perturb` itself runs the restarts, so that the frame calls it once."""
    ANY_LAYOUT: ClassVar[frozenset[Norm]] = frozenset()
    """The norms in which its arithmetic takes images of any memory format: it then works in the network's own one, so that
    no pass copies the batch to another format and back."""

    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset()
    """The norms in which what it makes of an example depends on no other one of the batch, once random draws are keyed by the
    example and passes have one size; see `harness.system.by_example`. Of an attack without any, its docstring says why."""

    restarts: int = Field(default=1, ge=1, le=1000)
    """How often the attack is run, each time from another random state, on the examples without success."""

    def conclusive(self, classes: int) -> bool:
        """Whether its robust accuracy among so many classes is more than an upper bound and may be a headline number."""
        return False

    def shortfall(self, classes: int) -> Shortfall | None:
        """Returns what an attack that may be conclusive lacks to be so among so many classes; None for all others."""
        return None

    def supports(self, threat_model: ThreatModel) -> str | None:
        """Returns None if the attack can run under this threat model, else the reason why not."""
        if threat_model.norm not in self.NORMS:
            return f"{self.name} has no {threat_model.norm} form, only {', '.join(sorted(self.NORMS))}"
        if threat_model.targeted and not self.TARGETED:
            return f"{self.name} has no targeted mode"
        return None

    def keeps_examples_apart(self, norm: Norm) -> bool:
        """Returns whether it may be run by example in a norm, see `BY_EXAMPLE`."""
        return norm in self.BY_EXAMPLE

    def supports_classes(self, classes: int) -> str | None:
        """Returns None if the attack can run on a model of so many classes, else the reason why not."""
        if classes < self.LEAST_CLASSES:
            return f"{self.name} needs a model with at least {self.LEAST_CLASSES} classes, this one has {classes}"
        return None

    def check_budgets(self, budgets: Sequence[Fraction]) -> None:
        """Does nothing if the attack's fields fit the budgets of its sweep.

        Raises:
            ValueError: if they do not; begins with the field.
        """

    def sample_of_audit(self, eps: Fraction) -> int:
        """Returns on how many examples without success it is audited at a budget of a sweep, see `harness.evaluation.audit`."""
        return 0

    def at(self, eps: Fraction, *, audited: bool) -> Self:
        """Returns the attack as it is run at a budget of a sweep.

        Args:
            eps: The budget.
            audited: Whether there are audits at all.
        """
        return self

    def stages(self, classes: int) -> tuple[Attack, ...]:
        """Returns the attacks that it is made of among so many classes, each for the examples without success of those before."""
        return (self,)

    def step_size(self, threat_model: ThreatModel) -> float | None:
        """Returns the step size alpha at this budget, in pixel units, or None where the attack has none."""
        return None

    def passes(self, classes: int) -> Passes | None:
        """Returns the most passes of an example in one call of `perturb`, among so many classes; None where that is not known.

        Progress and its ETA rest on it, and the size of a part of a sweep; no number does.
        """
        return None

    def most_passes(self, classes: int) -> Passes | None:
        """Returns the same over all restarts."""
        once = self.passes(classes)
        return None if once is None else once.times(1 if self.RESTARTS_INSIDE else self.restarts)

    @abstractmethod
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """Returns perturbed images.

        Args:
            model: The network, in eval mode, logits (N, K); every forward through it is counted and watched.
            x: Images (N, 3, H, W), float32 in [0,1]; must not be changed in place.
            y: True labels (N,), int64; the wanted classes where `threat_model.targeted`.
            threat_model: The norm and the budget.
            generator: Source of every random choice, on the device of `x`. A library that draws from the global
                generators runs inside `harness.system.seeds.global_seed`, seeded from this generator.

        Returns:
            Perturbed images of the same shape, dtype and device.
        """


ATTACKS: Registry[Attack] = Registry(
    "attacks",
    {
        "random_noise": "harness.attacks.random_noise:RandomNoise",
        "fgsm": "harness.attacks.torchattacks.stepwise:FGSM",
        "bim": "harness.attacks.torchattacks.stepwise:BIM",
        "pgd": "harness.attacks.torchattacks.stepwise:PGD",
        "mifgsm": "harness.attacks.torchattacks.stepwise:MIFGSM",
        "apgd-ce": "harness.attacks.torchattacks.auto:APGDCE",
        "apgd-t": "harness.attacks.torchattacks.auto:APGDT",
        "square": "harness.attacks.torchattacks.auto:Square",
        "hop_skip_jump": "harness.attacks.hop_skip_jump:HopSkipJump",
        "fab": "harness.attacks.torchattacks.minimum:FAB",
        "cw": "harness.attacks.torchattacks.minimum:CW",
        "deepfool": "harness.attacks.torchattacks.minimum:DeepFool",
        "pma": "harness.attacks.margin:PMA",
        "malt": "harness.attacks.malt:MALT",
        "audited": "harness.attacks.audited:Audited",
        "strong": "harness.attacks.strong:Strong",
        "art-pgd": "harness.attacks.art:ARTPGD",
        "art-autopgd": "harness.attacks.art:ARTAutoPGD",
    },
)
