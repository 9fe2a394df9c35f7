"""Which original image an iterate of an attack belongs to."""

import torch
from torch import Tensor
from torch.nn import functional

from harness.threat import Norm, ThreatModel

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
        threat_model: The norm and the budget of the perturbations.
    """

    def __init__(self, x: Tensor, threat_model: ThreatModel) -> None:
        """See the class."""
        self.x, self.threat_model = x, threat_model
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
        order = {Norm.LINF: torch.inf, Norm.L2: 2.0, Norm.L1: 1.0}[self.threat_model.norm]
        distances = torch.cdist(self._means(x.detach()), self.means, p=order, compute_mode="donot_use_mm_for_euclid_dist")
        possible = distances <= float(self.threat_model.eps) + SLACK
        return distances.nan_to_num(torch.inf).argmin(dim=1), possible.sum(dim=1) == 1

    def _means(self, x: Tensor) -> Tensor:
        """Returns cell means (n, D), scaled so that no perturbation is longer here than in the image."""
        area = self.side**2
        scale = {Norm.LINF: 1.0, Norm.L2: area**0.5, Norm.L1: float(area)}[self.threat_model.norm]
        return functional.avg_pool2d(x.float(), self.side).flatten(1) * scale
