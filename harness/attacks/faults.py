"""Which examples of a batch had no gradients to go by, over all restarts and stages of an attack."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from harness.records.evidence import Evidence


@dataclass(frozen=True, eq=False)
class GradientFaults:
    """What the gradients of N examples were like."""

    asked: Tensor
    """(N,) whether the attack asked for a gradient at all."""
    zero: Tensor
    """(N,) whether in every restart all gradients were zero in every pixel."""
    nonfinite: Tensor
    """(N,) whether any gradient was not finite."""

    @classmethod
    def before(cls, x: Tensor) -> Self:
        """Returns those of the images (N, C, H, W) before they are attacked."""
        nothing = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return cls(asked=nothing, zero=torch.ones_like(nothing), nonfinite=nothing.clone())

    @classmethod
    def joined(cls, parts: Sequence["GradientFaults"]) -> Self:
        """Returns those of one or more batches as those of one."""
        return cls(**{it.name: torch.cat([getattr(part, it.name) for part in parts]) for it in fields(cls)})

    def note(self, rows: Tensor, *, asked: Tensor, zero: Tensor, nonfinite: Tensor) -> None:
        """Notes a restart on the examples `rows` (n,); flags (n,)."""
        self.asked[rows] |= asked
        self.zero[rows] &= zero
        self.nonfinite[rows] |= nonfinite

    def then(self, later: "GradientFaults") -> "GradientFaults":
        """Returns those of the same examples after a further stage: one that asks for no gradient says nothing of zeros."""
        both = self.asked & later.asked
        zero = torch.where(both, self.zero & later.zero, torch.where(later.asked, later.zero, self.zero))
        return GradientFaults(self.asked | later.asked, zero, self.nonfinite | later.nonfinite)

    def at(self, rows: Tensor) -> "GradientFaults":
        """Returns those of the examples `rows`, a mask or positions."""
        return GradientFaults(self.asked[rows], self.zero[rows], self.nonfinite[rows])

    @property
    def evidence(self) -> Evidence:
        """Their numbers; all examples must have been attacked."""
        return Evidence(zero_gradients=int((self.zero & self.asked).sum()), nonfinite_gradients=int(self.nonfinite.sum()))
