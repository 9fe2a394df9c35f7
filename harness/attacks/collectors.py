"""Watchers that keep the adversarials which an attack shows the network: the first of each example, or the nearest."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.attacks.criterion import Correction, Criterion
from harness.attacks.watcher import Watcher, first_of_each, no_gradient
from harness.threat.ball import TOLERANCE, Ball, largest_change


class AllAdversarial(BaseException):
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
    """A watcher that keeps an adversarial image of each example, once the reference model confirms it.

    What that does not confirm the attack is not told either: libraries leave alone what they take for adversarial.

    Args:
        model: The network that the attack differentiates, perhaps in a faster form.
        x: The original images (N, C, H, W).
        criterion: When an iterate is a success.
        threat_model: Where an iterate must lie.
        reference: The reference model, which decides what is a success.
    """

    def __init__(self, model: nn.Module, x: Tensor, criterion: Criterion, *, threat_model: Ball, reference: nn.Module) -> None:
        """See the class."""
        super().__init__(model, x, criterion, threat_model=threat_model)
        self._networks = (model, reference)
        self.best = torch.empty_like(x)  # holds images where `success` says so
        self.logits: Tensor | None = None

    @property
    def reference(self) -> nn.Module:
        """The reference model."""
        return self._networks[-1]

    def _confirmed(self, x: Tensor, logits: Tensor, candidates: Tensor, rows: Tensor) -> tuple[Tensor, Correction | None]:
        """Keeps those of the candidates (indices into `x`) that are adversarial for the reference model.

        Returns their indices, and the reference model's logits on the others.
        """
        candidates = candidates[first_of_each(rows[candidates])]
        if not len(candidates):
            return candidates, None
        images, kept = _taken(x, candidates), logits[candidates].float()
        if self.reference is not self.model:
            self.forwards += len(candidates)
            kept = self.reference(images).float()
        is_adversarial = self.criterion.is_adversarial(kept, rows[candidates])
        sure, refused = is_adversarial.nonzero().flatten(), (~is_adversarial).nonzero().flatten()
        correction = Correction(candidates[refused], kept[refused]) if len(refused) else None
        images, candidates, kept = _taken(images, sure), candidates[sure], kept[sure]
        if self.logits is None:
            self.logits = kept.new_zeros(len(self.x), kept.shape[1])
        self.best[rows[candidates]] = images
        self.logits[rows[candidates]] = kept
        self._note(rows[candidates])
        return candidates, correction


class FirstAdversarial(Collector):
    """Keeps the first adversarial of each example inside the ball, and passes that example no more.

    Instead of a pass the attack gets the logits of the kept adversarial, with a gradient of zero, unless it asks which
    examples are `active` and goes on with those alone. Once there is an adversarial of every example, `AllAdversarial`
    ends the attack.
    """

    def __init__(self, model: nn.Module, x: Tensor, criterion: Criterion, *, threat_model: Ball, reference: nn.Module) -> None:
        """See `Collector`."""
        super().__init__(model, x, criterion, threat_model=threat_model, reference=reference)
        self.successes = 0
        self.told: Tensor | None = None  # images that the attack was last told to be adversarial, after the kept ones
        self.all_active = (self.origins.order, 0)  # rows without any success, and how many successes there were by then

    def active(self) -> Tensor | None:
        """See `Watcher.active`: an example with an adversarial needs no more steps."""
        rows, certain = self.origins.last
        if self._are_active(rows):
            return None
        active = ~self.success[rows]
        if active.all() or not certain.all():
            return None
        self.go_on_with(rows[active])
        return active

    def go_on_with(self, rows: Tensor) -> None:
        """See `Watcher.go_on_with`."""
        super().go_on_with(rows)
        if not self.success[rows].any():
            self.all_active = (rows, self.successes)

    def completed(self, x: Tensor, rows: Tensor) -> Tensor:
        """See `Watcher.completed`."""
        return self.best.index_copy(0, rows, x)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits for (n, C, H, W); those of examples with an adversarial are that one's."""
        rows, certain = self.origins.match(x)
        rest = self._to_pass(x.detach(), rows, certain)
        if rest is None:
            logits = self._pass(x, rows)
        elif len(rest):
            fresh = self._pass(cast(Tensor, Rows.apply(x, rest)), rows[rest])
            logits = cast(Tensor, self.logits)[rows].to(fresh.dtype).index_copy(0, rest, fresh)
        else:
            logits = cast(Tensor, self.logits)[rows] + no_gradient(x)
        with torch.no_grad():
            correction = self._see(x.detach(), rows, logits.detach())
        self._report(x)
        return logits if correction is None else correction.of(logits)

    @property
    def active_count(self) -> int:
        """See `Watcher.active_count`."""
        return len(self.x) - self.successes

    def _measure(self, gradient: Tensor, rows: Tensor) -> None:
        """Measures gradients; by example not those at an adversarial, as the pass that finds the last one of a batch has none."""
        if self.by_example and self.success[rows].any():
            active = ~self.success[rows]
            gradient, rows = gradient[active], rows[active]
        super()._measure(gradient, rows)

    def _to_pass(self, x: Tensor, rows: Tensor, certain: Tensor) -> Tensor | None:
        """Returns the indices of the rows that need the network, or None where all do."""
        if self._are_active(rows):
            return None
        known = (self.success[rows] & certain).nonzero().flatten()
        if not len(known):
            return None
        violation = self.threat_model.violation(x[known], self.x[rows[known]])
        active = torch.ones(len(x), dtype=torch.bool, device=x.device)
        active[known] = (violation > TOLERANCE) & ~violation.isinf()  # infinite: a pixel is not finite
        return active.nonzero().flatten()

    def _are_active(self, rows: Tensor) -> bool:
        """Returns whether it is known, without a look at any tensor, that no attack succeeded on any of the examples `rows`."""
        known, successes = self.all_active
        return rows is known and successes == self.successes

    def _see(self, x: Tensor, rows: Tensor, logits: Tensor) -> Correction | None:
        is_adversarial = self.criterion.is_adversarial(logits, rows)
        if not self._are_active(rows):
            again = self.success[rows]
            self._tell(x, rows, (is_adversarial & again).nonzero().flatten())
            is_adversarial &= ~again
        positions = is_adversarial.nonzero().flatten()
        if not len(positions):
            return None
        inside = self.threat_model.violation(_taken(x, positions), self.x[rows[positions]]) <= TOLERANCE
        sure, correction = self._confirmed(x, logits, positions[inside], rows)
        self.certain[rows[sure]] = self.origins.last[1][sure]
        self.successes += len(sure)
        if self.successes == len(self.x):
            raise AllAdversarial
        return correction

    def _tell(self, x: Tensor, rows: Tensor, positions: Tensor) -> None:
        """Keeps what the attack was told to be adversarial after the frame had kept another image of the same example."""
        if len(positions):
            if self.told is None:
                self.told = torch.full_like(self.x, torch.inf)
            self.told[rows[positions]] = x[positions]

    def lost(self, x: Tensor) -> Tensor:
        """Returns (N,) which of the returned images (N, C, H, W) are another than the attack knew to be adversarial.

        Of an example with an adversarial the attack gets that one's logits, so that it takes each later image of it for
        adversarial as well, and may return the last of them. Images that are not finite are left out: the gradients of such
        an example are zero, and attacks divide by their length.
        """
        lost = self.success & self.certain & (largest_change(x, self.best) > TOLERANCE)
        return lost if self.told is None else lost & (largest_change(x, self.told) > TOLERANCE)


class NearestAdversarial(Collector):
    """Keeps the nearest adversarial of each example, however far, for attacks that seek the smallest distance."""

    def __init__(self, model: nn.Module, x: Tensor, criterion: Criterion, *, threat_model: Ball, reference: nn.Module) -> None:
        """See `Collector`."""
        super().__init__(model, x, criterion, threat_model=threat_model, reference=reference)
        self.distance = torch.full((len(x),), torch.inf, device=x.device)

    def consider(self, x: Tensor, rows: Tensor, logits: Tensor) -> Correction | None:
        """Keeps those of the images (n, C, H, W) that are adversarial, in bounds and nearer than the ones so far."""
        distance = self.threat_model.distance(x, self.x[rows])
        in_bounds = ((x >= -TOLERANCE) & (x <= 1 + TOLERANCE)).flatten(1).all(dim=1)
        nearer = self.criterion.is_adversarial(logits, rows) & in_bounds & (distance < self.distance[rows])
        sure, correction = self._confirmed(x, logits, nearer.nonzero().flatten(), rows)
        self.distance[rows[sure]] = distance[sure]
        return correction

    def _see(self, x: Tensor, rows: Tensor, logits: Tensor) -> Correction | None:
        return self.consider(x, rows, logits)


def _taken(x: Tensor, positions: Tensor) -> Tensor:
    """Returns the images at some positions (n,), rising; without a copy where these are all images."""
    return x if len(positions) == len(x) else x[positions]
