"""Watchers that keep the adversarials which an attack shows the network: the first of each example, or the nearest."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.attacks.goals import Correction, Goal
from harness.attacks.watcher import Watcher, first_of_each, no_gradient
from harness.threat import TOLERANCE, ThreatModel, largest_change


class AllBroken(BaseException):
    """Ends an attack early: every example of the batch has its adversarial.

    No Exception, so that a library's own `except Exception` cannot swallow it.
    """


class Rows(torch.autograd.Function):
    """Some different rows of a batch. Indexing would add their gradients up one by one, in case a row came twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        """Returns the images `rows` (n,) of `x` (N, C, H, W)."""
        ctx.rows, ctx.like = rows, x.detach()
        return x[rows]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient with respect to `x`: zero in all other rows."""
        gradient = torch.zeros_like(ctx.like)
        gradient[ctx.rows] = gradients[0]
        return gradient, None


class Collector(Watcher):
    """A watcher that keeps an adversarial image of each example; `judge` confirms it before it counts.

    What the judge does not confirm the attack is not told either: libraries leave alone what they take for broken.

    Args:
        model: The network that the attack differentiates, perhaps in a faster form.
        x: The original images (N, C, H, W).
        goal: When an iterate is a success.
        threat_model: Where an iterate must lie.
        judge: The real network.
    """

    def __init__(self, model: nn.Module, x: Tensor, goal: Goal, *, threat_model: ThreatModel, judge: nn.Module) -> None:
        """See the class."""
        super().__init__(model, x, goal, threat_model=threat_model)
        self._networks = (model, judge)
        self.best = torch.empty_like(x)  # holds images where `found` says so
        self.logits: Tensor | None = None

    @property
    def judge(self) -> nn.Module:
        """The real network."""
        return self._networks[-1]

    def _confirmed(self, x: Tensor, logits: Tensor, candidates: Tensor, rows: Tensor) -> tuple[Tensor, Correction | None]:
        """Keeps the candidates (indices into `x`) that the judge agrees on; returns their indices, and what it said of others."""
        candidates = candidates[first_of_each(rows[candidates])]
        if not len(candidates):
            return candidates, None
        images, kept = _taken(x, candidates), logits[candidates].float()
        if self.judge is not self.model:
            self.forwards += len(candidates)
            kept = self.judge(images).float()
        reached = self.goal.reached(kept, rows[candidates])
        sure, refused = reached.nonzero().flatten(), (~reached).nonzero().flatten()
        correction = Correction(candidates[refused], kept[refused]) if len(refused) else None
        images, candidates, kept = _taken(images, sure), candidates[sure], kept[sure]
        if self.logits is None:
            self.logits = kept.new_zeros(len(self.x), kept.shape[1])
        self.best[rows[candidates]] = images
        self.logits[rows[candidates]] = kept
        self._note(rows[candidates])
        return candidates, correction


class Breaker(Collector):
    """Keeps the first adversarial of each example inside the ball, and spares the network what is broken.

    An example that is broken is no longer passed through the network: the attack gets the logits of its
    adversarial back, with a gradient of zero, unless it asks who is `standing` and goes on with those alone. Once all
    are broken the attack is stopped by `AllBroken`.
    """

    def __init__(self, model: nn.Module, x: Tensor, goal: Goal, *, threat_model: ThreatModel, judge: nn.Module) -> None:
        """See `Collector`."""
        super().__init__(model, x, goal, threat_model=threat_model, judge=judge)
        self.broken = 0
        self.told: Tensor | None = None  # images that the attack was last told to be adversarial, after the kept ones
        self.all_standing = (self.origins.order, 0)  # rows none of which was broken, and how many others were by then

    def standing(self) -> Tensor | None:
        """See `Watcher.standing`: what is broken needs no more steps."""
        rows, certain = self.origins.last
        if self._all_stand(rows):
            return None
        standing = ~self.found[rows]
        if standing.all() or not certain.all():
            return None
        self.origins.order = rows[standing]
        self.all_standing = (self.origins.order, self.broken)
        return standing

    def completed(self, x: Tensor, rows: Tensor) -> Tensor:
        """See `Watcher.completed`."""
        return self.best.index_copy(0, rows, x)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits for (n, C, H, W); those of broken examples are remembered ones."""
        rows, certain = self.origins.match(x)
        rest = self._unbroken(x.detach(), rows, certain)
        if rest is None:
            logits = self._pass(x, rows)
        elif len(rest):
            fresh = self._pass(cast(Tensor, Rows.apply(x, rest)), rows[rest])
            logits = cast(Tensor, self.logits)[rows].to(fresh.dtype).index_copy(0, rest, fresh)
        else:
            logits = cast(Tensor, self.logits)[rows] + no_gradient(x)
        with torch.no_grad():
            correction = self._see(x.detach(), rows, logits.detach())
        return logits if correction is None else correction.of(logits)

    def _unbroken(self, x: Tensor, rows: Tensor, certain: Tensor) -> Tensor | None:
        """Returns the indices of the rows that need the network, or None where all do."""
        if self._all_stand(rows):
            return None
        broken = (self.found[rows] & certain).nonzero().flatten()
        if not len(broken):
            return None
        violation = self.threat_model.violation(x[broken], self.x[rows[broken]])
        spared = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        spared[broken] = (violation <= TOLERANCE) | violation.isinf()  # infinite: a pixel is not finite
        return (~spared).nonzero().flatten()

    def _all_stand(self, rows: Tensor) -> bool:
        """Returns whether it is known, without a look at any tensor, that none of the examples `rows` is broken."""
        known, broken = self.all_standing
        return rows is known and broken == self.broken

    def _see(self, x: Tensor, rows: Tensor, logits: Tensor) -> Correction | None:
        wrong = self.goal.reached(logits, rows)
        if not self._all_stand(rows):
            again = self.found[rows]
            self._tell(x, rows, (wrong & again).nonzero().flatten())
            wrong &= ~again
        positions = wrong.nonzero().flatten()
        if not len(positions):
            return None
        inside = self.threat_model.violation(_taken(x, positions), self.x[rows[positions]]) <= TOLERANCE
        sure, correction = self._confirmed(x, logits, positions[inside], rows)
        self.certain[rows[sure]] = self.origins.last[1][sure]
        self.broken += len(sure)
        if self.broken == len(self.x):
            raise AllBroken
        return correction

    def _tell(self, x: Tensor, rows: Tensor, positions: Tensor) -> None:
        """Keeps what the attack was told to be adversarial after the frame had kept another image of the same example."""
        if len(positions):
            if self.told is None:
                self.told = torch.full_like(self.x, torch.inf)
            self.told[rows[positions]] = x[positions]

    def given_up(self, x: Tensor) -> Tensor:
        """Returns (N,) which of the returned images (N, C, H, W) are another than the attack knew to be adversarial.

        What is broken gets remembered logits, so that the attack takes each later image of it for adversarial as well, and
        may return the last of them. Images that are not finite are left out: gradients of what is broken are zero, by whose
        length attacks divide.
        """
        lost = self.found & self.certain & (largest_change(x, self.best) > TOLERANCE)
        return lost if self.told is None else lost & (largest_change(x, self.told) > TOLERANCE)


class Shrinker(Collector):
    """Keeps the nearest adversarial of each example, however far, for attacks that seek the smallest distance."""

    def __init__(self, model: nn.Module, x: Tensor, goal: Goal, *, threat_model: ThreatModel, judge: nn.Module) -> None:
        """See `Collector`."""
        super().__init__(model, x, goal, threat_model=threat_model, judge=judge)
        self.distance = torch.full((len(x),), torch.inf, device=x.device)

    def consider(self, x: Tensor, rows: Tensor, logits: Tensor) -> Correction | None:
        """Keeps those of the images (n, C, H, W) that are adversarial, in bounds and nearer than the ones so far."""
        distance = self.threat_model.distance(x, self.x[rows])
        in_bounds = ((x >= -TOLERANCE) & (x <= 1 + TOLERANCE)).flatten(1).all(dim=1)
        nearer = self.goal.reached(logits, rows) & in_bounds & (distance < self.distance[rows])
        sure, correction = self._confirmed(x, logits, nearer.nonzero().flatten(), rows)
        self.distance[rows[sure]] = distance[sure]
        return correction

    def _see(self, x: Tensor, rows: Tensor, logits: Tensor) -> Correction | None:
        return self.consider(x, rows, logits)


def _taken(x: Tensor, positions: Tensor) -> Tensor:
    """Returns the images at some positions (n,), rising; without a copy where these are all images."""
    return x if len(positions) == len(x) else x[positions]
