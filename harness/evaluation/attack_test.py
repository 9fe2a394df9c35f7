"""A unit test for attacks: planted adversarials that a sound attack must find.

Source: Zimmermann et al. 2022, "Increasing confidence in adversarial robustness evaluations",
    https://arxiv.org/abs/2206.13991: test the attack on a model whose adversarials are known to exist.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch

from harness.attacks.base import Attack
from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput, AttackResult
from harness.errors import HarnessError
from harness.evaluation.checks.base import GRADIENT_ATTACKS
from harness.evaluation.checks.single import RAW_TOLERANCE
from harness.evaluation.planted import PLANTS
from harness.records.evidence import Access
from harness.threat import Norm, ThreatModel

EXAMPLES = 8
FACTORS: Mapping[Access, float] = {"single_step": 1.25, "iterative": 1.25, "ensemble": 1.25, "black_box": 4.0}
"""How much larger than the distance of the planted adversarial the budget is."""
BUDGETS = {Norm.LINF: Fraction(8, 255), Norm.L2: Fraction(1, 2), Norm.L1: Fraction(3, 10)}


@dataclass(frozen=True)
class AttackReport:
    """What an attack made of planted adversarials."""

    attack: str
    found: Mapping[str, float]
    """Share of the planted adversarials found, by norm and net, e.g. "Linf hyperplane"."""
    problems: tuple[str, ...]
    """One line a fault; empty where there is none."""

    @property
    def passed(self) -> bool:
        """Whether the attack has no fault."""
        return not self.problems

    def check(self) -> None:
        """Does nothing if the attack has no fault.

        Raises:
            HarnessError: with one line a fault.
        """
        if self.problems:
            raise HarnessError("\n".join(f"attacks.{self.attack}: {problem}" for problem in self.problems))


def attack_test(attack: Attack, *, factor: float | None = None, seed: int = 0) -> AttackReport:
    """Runs an attack, in every norm it knows, on small nets with planted adversarials.

    An attack passes if it returns an adversarial for every image, inside the ball, the same one for the same seed, asks
    for gradients if it claims to use them, and leaves the network in eval mode. No library function around it helps: what
    it returns is judged.

    Args:
        attack: The plug-in.
        factor: How much larger than the distance of the adversarial the budget is; 1.25, or 4 for black-box attacks.
        seed: Seeds nets, images and attack.

    Raises:
        HarnessError: if the attack uses nothing of the model, so that nothing can be asked of it.
    """
    if attack.ACCESS == "none":
        raise HarnessError(f"attacks.{attack.name}: expected an attack that uses the model, got a control")
    found: dict[str, float] = {}
    problems: list[str] = []
    for norm in sorted(attack.NORMS):
        threat_model = ThreatModel(norm=norm, eps=BUDGETS[norm])
        for plant in _plants(attack.ACCESS, norm):
            net, x = PLANTS[plant](EXAMPLES, threat_model, factor=factor or FACTORS[attack.ACCESS], seed=seed)
            inputs = AttackInput(net, x, net(x).argmax(dim=1))
            try:
                first, second = (
                    run_attack(attack, inputs, threat_model=threat_model, seed=seed, best_of_iterates=False) for _ in range(2)
                )
            except HarnessError as error:
                problems.append(f"{norm} {plant}: {error}")
                continue
            found[f"{norm} {plant}"] = float(first.is_adversarial.float().mean())
            problems += [f"{norm} {plant}: {problem}" for problem in _problems(attack, first, second)]
    return AttackReport(attack.name, found, tuple(problems))


def _plants(access: Access, norm: Norm) -> tuple[str, ...]:
    """Returns the nets that can be asked for.

    Needles lie where gradients lead, and in L1 these lead along one pixel. What saturates is a matter of L1, where the whole
    budget may go into few values.
    """
    if norm is Norm.L1:
        return ("hyperplane", "edges")
    return ("hyperplane",) if access == "black_box" else ("hyperplane", "needles")


def _problems(attack: Attack, result: AttackResult, again: AttackResult) -> Iterator[str]:
    evidence, missed = result.evidence, int((~result.is_adversarial).sum())
    if missed:
        yield f"expected an adversarial for all {len(result.is_adversarial)} images, missed {missed}"
    if evidence.silent_successes:
        yield f"showed the model adversarials of {evidence.silent_successes} images and returned others"
    if not attack.MINIMUM_NORM and evidence.violation > RAW_TOLERANCE:
        yield f"expected images inside ball and [0,1], got {evidence.violation:.2g} outside"
    if attack.ACCESS in GRADIENT_ATTACKS and not evidence.backwards:
        yield f"expected gradients from an attack of the kind {attack.ACCESS}, got no backward pass"
    if evidence.nonfinite_images:
        yield f"expected finite images, got NaN or infinite pixels in {evidence.nonfinite_images} of {evidence.returned}"
    if evidence.mode_switches:
        yield "expected a network left in eval mode, got a call for training mode: it would move BatchNorm's statistics"
    if not torch.equal(result.x_adv, again.x_adv):
        yield "expected the same images for the same seed, got others"
