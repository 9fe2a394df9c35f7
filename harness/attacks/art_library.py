"""ART's parts of the attacks in `harness.attacks.art`; its import takes seconds."""

from typing import Any, cast

import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from harness.attacks.art_directions import ORDERS, best_l1_point
from harness.threat import Norm


class BelowZero(nn.Module):
    """Shifts the logits of each image so that the largest is 0: losses stay, and none looks like probabilities.

    ART's AutoPGD refuses a network whose outputs for a white image lie in [0,1] and add up to 1. That a network's outputs are
    probabilities is for the checks of this project to say, whatever the attack.
    """

    def __init__(self, model: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W)."""
        logits = cast(Tensor, self.model(x))
        return logits - logits.detach().amax(dim=1, keepdim=True)


class SaturatingPGD(ProjectedGradientDescentPyTorch):  # type: ignore[misc]  # the library has no types
    """ART's PGD, whose steps in L1 know where [0,1] ends.

    The library's step in L1 moves the one value with the largest gradient. Once that value is at 0 or 1 the clipping takes the
    step back, and the next one chooses the same value again (ART 1.20.1). Here a step of the same length leads towards the
    best point of the ball inside [0,1], to which a linear network would be followed in the end; it needs no projection.
    """

    def _compute_pytorch(self, x: Tensor, x_init: Tensor, *settings: Any) -> Tensor:
        """Returns the next images (N, C, H, W) from the present ones `x` and the original ones `x_init`."""
        self._originals = x_init
        return cast(Tensor, super()._compute_pytorch(x, x_init, *settings))

    def _compute_perturbation_pytorch(self, x: Tensor, y: Tensor, mask: Tensor | None, momentum: Tensor) -> Tensor:
        """Returns the direction (N, C, H, W) of a step, which the library multiplies by its size."""
        if self.norm != ORDERS[Norm.L1]:
            return cast(Tensor, super()._compute_perturbation_pytorch(x, y, mask, momentum))
        gradient = self.estimator.loss_gradient(x=x, y=y) * (-1 if self.targeted else 1)
        way = best_l1_point(gradient, self._originals, eps=self.eps) - x
        length = way.abs().sum(dim=(1, 2, 3), keepdim=True)
        leads = (gradient.isfinite() & (gradient != 0)).flatten(1).any(dim=1).view(-1, 1, 1, 1)
        return torch.where(leads, way / length.clamp(min=self.eps_step), 0.0)


def estimator(network: nn.Module, x: Tensor, *, classes: int) -> PyTorchClassifier:
    """Returns ART's classifier around a network for images like `x` (N, C, H, W)."""
    return PyTorchClassifier(
        model=BelowZero(network),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type=str(x.device),
    )
