"""The rule of agreement: whether a runtime computes what PyTorch computed; `harness_eval` has the same in C++."""

from dataclasses import dataclass

from harness.export.differences import Differences
from harness.metrics import share
from harness.system.messages import counted


@dataclass(frozen=True)
class Rule:
    """The rule: no flip outside the margin, no logits too far apart, no NaN, no infinity in one runtime alone.

    Both bounds are times the scale of an example, which is at least 1 (`harness.export.differences`).
    """

    margin: float = 1e-3
    """A flip is allowed where the reference preferred its own class by no more than this."""
    quantile_bound: float = 1e-3
    """Largest 99th percentile of the examples' largest absolute differences."""
    expects_reference: bool = True
    """Whether the reference's logits are expected; where they are not, the comparison is a measurement alone."""


@dataclass(frozen=True, eq=False)
class Comparison(Differences):
    """Logits of a runtime beside those of the reference, with the rule applied to them."""

    @property
    def agreement(self) -> float:
        """Share of the examples with the reference's class."""
        return float("nan") if self.reference is None else share((self.predicted == self.expected) & ~self.nan)

    def matches(self, rule: Rule) -> bool | None:
        """Whether these are the reference's logits, by the rule, whether or not they are expected; None without any."""
        if self.reference is None:
            return None
        broken = self.nan.any() or self.infinite or self.flips_outside(rule.margin)
        return not broken and not self.p99_relative > rule.quantile_bound

    def disagreements(self, rule: Rule) -> tuple[str, ...]:
        """Returns what breaks the rule; nothing where the runtimes agree."""
        reasons = []
        if unknown := int(self.nan.sum()):
            reasons.append(f"{counted(unknown, 'example')} with a logit that is NaN")
        if self.reference is None or not rule.expects_reference:
            if unbounded := int(self.unbounded.sum()):
                reasons.append(f"{counted(unbounded, 'example')} with a largest logit that is infinite")
            return tuple(reasons)
        if self.infinite:
            reasons.append(f"{counted(self.infinite, 'example')} with a logit that is infinite in one runtime alone")
        if flips := self.flips_outside(rule.margin):
            reasons.append(f"{counted(flips, 'flip')} outside the margin of {rule.margin:.3g}")
        if self.p99_relative > rule.quantile_bound:
            bound = f"above {rule.quantile_bound:.3g}"
            reasons.append(f"99th percentile of the relative logit difference {self.p99_relative:.3g}, {bound}")
        return tuple(reasons)
