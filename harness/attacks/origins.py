"""Which original image an iterate of an attack belongs to."""

import torch
from torch import Tensor
from torch.nn import functional

CELLS = 8
"""Images are compared by the means of about CELLS x CELLS cells: cheap, and enough to tell photographs apart."""

SLACK = 1e-5
"""Rounding error allowed for in the comparison of cell means."""


class Origins:
    """Finds the originals of the rows that an attack passes to the network.

    A batch as long as the original one is taken to be in its order, and one as long as `order`, which an attack and its
    watcher have agreed on since, to hold those rows. Attacks that drop examples on their own as they go (APGD, FAB,
    Square) pass shorter ones: their rows are matched to the nearest original by cell means. Averaging shortens a
    perturbation by a known factor, so an original whose cell means lie further off than the budget allows is ruled out; a
    match is certain where one original alone is left.

    Args:
        x: The original images (N, C, H, W).
        order: The p of the Lp norm of the perturbations.
        eps: Their budget, in pixel units of [0,1].
    """

    def __init__(self, x: Tensor, *, order: float, eps: float) -> None:
        """See the class."""
        self.x, self.norm_order, self.eps = x, order, eps
        self.side = max(1, min(x.shape[-2:]) // CELLS) if x.dim() == 4 else 1
        self.means: Tensor | None = None
        self.order = torch.arange(len(x), device=x.device)
        self.last = (self.order, torch.ones(len(x), dtype=torch.bool, device=x.device))

    def match(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (n,) the row of each image's original, and (n,) whether there is no doubt about it.

        Args:
            x: Iterates (n, C, H, W).
        """
        self.last = self._match(x)
        return self.last

    def _match(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if len(x) == len(self.x) != len(self.order):  # another attack of an ensemble begins
            self.order = torch.arange(len(x), device=x.device)
        if len(x) == len(self.order):
            return self.order, torch.ones(len(x), dtype=torch.bool, device=x.device)
        if self.means is None:
            self.means = self._means(self.x)
        means, mode = self._means(x.detach()), "donot_use_mm_for_euclid_dist"
        distances = torch.cdist(means, self.means, p=self.norm_order, compute_mode=mode)
        possible = distances <= self.eps + SLACK
        return distances.nan_to_num(torch.inf).argmin(dim=1), possible.sum(dim=1) == 1

    def _means(self, x: Tensor) -> Tensor:
        """Returns cell means (n, D), scaled so that no perturbation is longer here than in the image."""
        area = self.side**2
        return functional.avg_pool2d(x.float(), self.side).flatten(1) * area ** (1 / self.norm_order)
