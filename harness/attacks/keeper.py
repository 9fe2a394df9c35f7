"""The watcher that keeps an image of every example for other networks to be shown, whatever the attack itself returns."""

import torch
from torch import Tensor, nn

from harness.attacks.criterion import Correction, Criterion
from harness.attacks.watcher import Watcher, first_of_each
from harness.threat.ball import TOLERANCE, Ball


class Keeper(Watcher):
    """Keeps of each example the most promising image that the attack shows the network.

    That is the one with the smallest margin among those that lie inside the ball, differ from the original and are not
    adversarial. Where none lies inside, it is the last one that differs from the original: the frame projects it.
    """

    def __init__(self, model: nn.Module, x: Tensor, criterion: Criterion, *, threat_model: Ball) -> None:
        """See `Watcher`."""
        super().__init__(model, x, criterion, threat_model=threat_model)
        self.promising = torch.empty_like(x)  # holds images where `kept` says so
        self.kept = self._flags()
        self.margin = torch.full((len(x),), torch.inf, device=x.device)  # of those inside

    def closer_than(self, x_adv: Tensor, logits: Tensor, active: Tensor, *, model: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Looks where a kept image comes closer to success than the one that the attack returned, without being one.

        Args:
            x_adv: The returned images (N, C, H, W), inside the balls; one that is the original counts for nothing.
            logits: The reference model's logits (N, K) on them.
            active: (N,) the examples that are asked about.
            model: The reference model.

        Returns:
            The examples (m,), their images inside the balls and the logits (m, K) on those.
        """
        rows = (active & self.kept).nonzero().flatten()
        kept, x = self.promising[rows], self.x[rows]
        outside = (self.threat_model.violation(kept, x) > TOLERANCE).nonzero().flatten()
        kept[outside] = self.threat_model.project(kept[outside], x[outside])
        self.forwards += len(rows)
        with torch.no_grad():
            found = model(kept).float() if len(rows) else logits[rows]
        closer = self.criterion.margin(found, rows) < self.criterion.margin(logits[rows], rows)
        closer |= self.threat_model.distance(x_adv[rows], x) <= TOLERANCE
        chosen = closer & ~self.criterion.is_adversarial(found, rows)
        return rows[chosen], kept[chosen], found[chosen]

    def _see(self, x: Tensor, rows: Tensor, logits: Tensor) -> Correction | None:
        margin = self.criterion.margin(logits.float(), rows).nan_to_num(torch.inf)
        closer = (margin < self.margin[rows]).nonzero().flatten()
        if len(closer):
            closer = closer[margin[closer].argsort()]
            closer = closer[first_of_each(rows[closer])]
            self._keep(
                x[closer],
                rows[closer],
                margin[closer],
                is_adversarial=self.criterion.is_adversarial(logits[closer], rows[closer]),
            )
        return super()._see(x, rows, logits)

    def _keep(self, x: Tensor, rows: Tensor, margin: Tensor, *, is_adversarial: Tensor) -> None:
        """Keeps the images (n, C, H, W) that are inside and not adversarial, and where there was none so far, those outside."""
        distance = self.threat_model.distance(x, self.x[rows])
        violation = self.threat_model.violation_at(distance, x)
        inside, moved = violation <= TOLERANCE, violation.isfinite() & (distance > TOLERANCE)
        moved &= ~(inside & is_adversarial)
        wanted = moved & (inside | self.margin[rows].isinf())
        self.promising[rows[wanted]] = x[wanted]
        self.kept[rows[wanted]] = True
        self.margin[rows[moved & inside]] = margin[moved & inside]
