"""torchattacks' FAB in Linf without a sort in each step, on the active examples only."""

from dataclasses import dataclass
from typing import cast

import torch
import torchattacks
from torch import Tensor

from harness.attacks.torchattacks.active import still_active

SMALLEST_STEP = 1e-8
"""Lengths are at least this, so that two projections of length 0 get a weight."""
MOST_PIECES = 64
"""Pieces of the length's piecewise linear function that are looked at; random images need about 5."""


class SortFreeFAB(torchattacks.FAB):  # type: ignore[misc]  # the library has no types
    """torchattacks' targeted FAB, in Linf with the same steps up to rounding.

    The library projects onto the hyperplane by a sort of all pixels, which is a quarter of its time on small networks, and passes
    each image twice before its first step. An example leaves the tensors once the watcher keeps an adversarial inside the ball.
    """

    def attack_single_run_targeted(self, x: Tensor, y: Tensor | None = None, use_rand_start: bool = False) -> Tensor:
        """Returns the nearest adversarials found (N, C, H, W), the images themselves where there is none; see the library's."""
        if self.norm != "Linf" or use_rand_start or y is None:
            return cast(Tensor, super().attack_single_run_targeted(x, y, use_rand_start=use_rand_start))
        with torch.no_grad():
            return self._search_linf(x, y)

    def _search_linf(self, x: Tensor, y: Tensor) -> Tensor:
        """Source: Croce and Hein 2020, https://arxiv.org/abs/1907.02044, algorithm 1."""
        logits, found = self.get_logits(x), x.clone()
        target = logits.argsort(dim=-1)[:, -self.target_class]
        rows = torch.arange(len(x), device=x.device)
        search = _Search(rows, x, x.clone(), x.clone(), y, target, torch.full((len(x),), torch.inf, device=x.device))
        search = search.at(still_active(self.model, logits.argmax(dim=1) == y))
        for _ in range(self.steps):
            if not len(search.rows):
                break
            self._step(search)
            is_adversarial = self.get_logits(search.x_adv).argmax(dim=1) != search.y
            search.keep(is_adversarial.nonzero().flatten(), beta=self.beta)
            active = still_active(self.model, torch.ones_like(is_adversarial))
            if not active.all():
                found[search.rows] = search.best
                search = search.at(active)
        found[search.rows] = search.best
        return found

    def _step(self, search: "_Search") -> None:
        """Projects the iterates and the images onto the linearised boundary, and moves to a point between both."""
        difference, gradient = self.get_diff_logits_grads_batch_targeted(search.x_adv, search.y, search.target)
        slope = gradient[:, 0].flatten(1)
        iterate, image = search.x_adv.flatten(1), search.x.flatten(1)
        offset = (slope * iterate).sum(dim=1) - difference[:, 0]
        both = onto_hyperplane(torch.cat([iterate, image]), torch.cat([slope, slope]), torch.cat([offset, offset]))
        length = both.abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST_STEP)
        (step, way_back), (near, far) = both.chunk(2), length.chunk(2)
        alpha = (near / (near + far)).clamp(min=0, max=self.alpha_max)
        moved = (iterate + self.eta * step) * (1 - alpha) + (image + self.eta * way_back) * alpha
        search.x_adv = moved.clamp(0, 1).view_as(search.x)


@dataclass
class _Search:
    """Where the search is, for n examples."""

    rows: Tensor
    """(n,) their positions in the batch that the search began with."""
    x: Tensor
    """Their images (n, C, H, W)."""
    x_adv: Tensor
    """The last iterates (n, C, H, W)."""
    best: Tensor
    """The nearest adversarials (n, C, H, W), or the images."""
    y: Tensor
    """(n,) the true labels."""
    target: Tensor
    """(n,) the classes to reach."""
    nearest: Tensor
    """(n,) the distance of the nearest adversarials, infinite where there is none."""

    def at(self, active: Tensor) -> "_Search":
        """Returns the search on the examples `active`, a mask (n,)."""
        if active.all():
            return self
        rows = active.nonzero().flatten()
        parts = (self.rows, self.x, self.x_adv, self.best, self.y, self.target, self.nearest)
        return _Search(*(part[rows] for part in parts))

    def keep(self, rows: Tensor, *, beta: float) -> None:
        """Keeps the iterates at `rows`, which are adversarial, where they are nearer, and moves them back towards the images."""
        if not len(rows):
            return
        change = self.x_adv[rows] - self.x[rows]
        distance = change.flatten(1).abs().amax(dim=1)
        nearer = distance < self.nearest[rows]
        self.best[rows[nearer]], self.nearest[rows[nearer]] = self.x_adv[rows[nearer]], distance[nearer]
        self.x_adv[rows] = self.x[rows] + change * beta


def onto_hyperplane(points: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """Returns the smallest changes (n, D) in Linf that take points in the box [0,1] onto hyperplanes, without leaving the box.

    Every coordinate moves by the same length towards the plane, or as far as the box allows. What that gains is concave and
    piecewise linear in the length: Newton's method from 0 never goes too far, and ends at the exact length after a few pieces.
    Where the plane does not meet the box, every coordinate moves as far as it can.

    Args:
        points: (n, D) in [0,1].
        slope: Normals (n, D) of the planes; a coordinate of slope 0 does not move.
        offset: (n,) the planes are where `slope * point` adds up to this.
    """
    missing = offset - (slope * points).sum(dim=1)
    upwards, steepness = (slope > 0) == (missing > 0)[:, None], slope.abs()
    room = torch.where(upwards, 1 - points, points)
    length, missing = torch.zeros_like(missing), missing.abs()
    for _ in range(MOST_PIECES):
        free = (steepness * (room > length[:, None])).sum(dim=1)
        gained = (steepness * torch.minimum(room, length[:, None])).sum(dim=1)
        longer = torch.where(free > 0, length + (missing - gained) / free, torch.inf)
        rising = longer > length
        if not rising.any():
            break
        length = torch.where(rising, longer, length)
    change = torch.minimum(room, length[:, None])
    return torch.where(upwards, change, -change) * (slope != 0)
