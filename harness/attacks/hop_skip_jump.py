"""HopSkipJump: an attack on labels alone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.passes import Passes
from harness.records.evidence import Access
from harness.system.lazy import torch
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.attacks.decisions import Decisions

CHUNK = 32
"""Images of a pass."""


@ATTACKS.register
class HopSkipJump(Attack):
    """Walks along the boundary of a class towards the image, by labels alone: no gradient and no logit is used.

    It starts at the nearest image of its batch that has another class, else at noise; so it is not run by example.

    Source: Chen, Jordan and Wainwright 2020, https://arxiv.org/abs/1904.02144, algorithm 2; as ART implements it.
    """

    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF, Norm.L2})
    ACCESS: ClassVar[Access] = "black_box"
    MINIMUM_NORM: ClassVar[bool] = True

    name: Literal["hop_skip_jump"] = "hop_skip_jump"
    queries: int = Field(default=5000, ge=1)
    """Images whose class is asked for, for each example. Two passes more see the image itself and what was found."""
    initial_queries: int = Field(default=100, ge=1)
    """Images of the first estimate of a direction; the t-th takes that times the root of t."""
    noise: int = Field(default=100, ge=1)
    """Random images that are tried as a start, at most, where no image of the batch has another class."""

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(self.queries + 2)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.decisions import Decisions, Spent

        with torch.no_grad():
            logits = model(x)
        classes, predicted = logits.shape[1], logits.argmax(dim=1)
        found, most = x.clone(), CHUNK
        for row, label in enumerate(y.tolist()):
            decisions = Decisions(model, x, row, label=label, threat_model=threat_model, queries=self.queries, most=most)
            with suppress(Spent):
                self._search(decisions, x[predicted != label], classes=classes, generator=generator)
            found[row], most = decisions.nearest, decisions.most
        return found

    def _search(self, decisions: Decisions, others: Tensor, *, classes: int, generator: torch.Generator) -> None:
        """Searches until the queries are used up; what it finds is in `decisions`."""
        from harness.attacks.art_library import hop_skip_jump

        x, norm = decisions.x[0], decisions.threat_model.norm
        self._find_start(decisions, others, generator=generator)
        if decisions.found:
            hop_skip_jump(
                decisions,
                x,
                decisions.nearest,
                classes=classes,
                label=decisions.label,
                norm=norm,
                evaluations=self.initial_queries,
                batch_size=CHUNK,
            )

    def _find_start(self, decisions: Decisions, others: Tensor, *, generator: torch.Generator) -> None:
        """Shows the nearest image of another class; where there is none, noise until one is adversarial."""
        x = decisions.x
        if len(others):
            distance = decisions.threat_model.distance(others, x.expand(len(others), -1, -1, -1))
            decisions(others[distance.argmin()][None])
        for _ in range(0 if decisions.found else self.noise):
            decisions(torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype))
            if decisions.found:
                return
