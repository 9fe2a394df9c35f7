"""Whether a runtime computes what PyTorch computed: the rule of agreement, as `harness_eval` has it in C++."""

from dataclasses import dataclass

from harness.export.differences import Differences
from harness.metrics import share


@dataclass(frozen=True)
class Rule:
    """What breaks agreement: a flip that no near-tie excuses, logits too far apart, NaN, or an infinity in one runtime alone.

    Both bounds are times the scale of an example, which is at least 1 (`harness.export.differences`).
    """

    margin: float = 1e-3
    """A flip is excused where the reference preferred its own class by no more than this."""
    quantile_bound: float = 1e-3
    """Largest 99th percentile of the examples' largest absolute differences."""
    expects_reference: bool = True
    """Whether the reference's logits are expected; where they are not, the comparison is a measurement alone."""


@dataclass(frozen=True, eq=False)
class Comparison(Differences):
    """Logits of a runtime beside those of the reference, and what the rule says of them."""

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
            reasons.append(f"{_counted(unknown, 'example')} with a logit that is NaN")
        if self.reference is None or not rule.expects_reference:
            if unbounded := int(self.unbounded.sum()):
                reasons.append(f"{_counted(unbounded, 'example')} with a largest logit that is infinite")
            return tuple(reasons)
        if self.infinite:
            reasons.append(f"{_counted(self.infinite, 'example')} with a logit that is infinite in one runtime alone")
        if flips := self.flips_outside(rule.margin):
            reasons.append(f"{_counted(flips, 'flip')} outside the margin of {rule.margin:.3g}")
        if self.p99_relative > rule.quantile_bound:
            bound = f"above {rule.quantile_bound:.3g}"
            reasons.append(f"99th percentile of the relative logit difference {self.p99_relative:.3g}, {bound}")
        return tuple(reasons)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
