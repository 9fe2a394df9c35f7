"""ART's parts of the attacks in `harness.attacks.art`; its import takes seconds."""

from typing import Any, cast

import numpy as np
import torch
from art.attacks.evasion import HopSkipJump, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from harness.attacks.art_directions import ORDERS, best_l1_point
from harness.threat import Norm

LEAST_NOISE = 2 / 255
"""Root mean square over pixels, in pixel units: two grey levels of an 8-bit image."""
MOST_ITERATIONS, MOST_EVALUATIONS = 10_000, 10_000
"""Of HopSkipJump, whose queries end it before; the second is the library's own bound."""


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


class CoarseHopSkipJump(HopSkipJump):  # type: ignore[misc]  # the library has no types
    """ART's HopSkipJump, whose noise moves pixels by about two grey levels at least.

    The library's noise shrinks with the distance, to a hundredth of a grey level on photographs. A network that takes whole
    pixels, or computes with 8-bit numbers, gives all such images one class, and the direction is lost: more queries then find
    nothing more (ART 1.20.1), and such a network looks more robust than it is.
    """

    def _compute_delta(self, *images: Any, **settings: Any) -> float:
        """Returns the length of the noise of all pixels together."""
        grey = LEAST_NOISE * float(np.sqrt(np.prod(self.estimator.input_shape)))
        return max(float(super()._compute_delta(*images, **settings)), grey)


def hop_skip_jump(
    network: nn.Module, x: Tensor, start: Tensor, *, classes: int, label: int, norm: Norm, evaluations: int, batch_size: int
) -> Tensor:
    """Returns ART's HopSkipJump of one image, from a start that it is given.

    The library draws its own start from a generator that no seed reaches (ART 1.20.1).

    Args:
        network: Images (n, C, H, W) to labels as rows (n, K) with a 1; it ends the search by an exception.
        x: The image (C, H, W).
        start: An image (C, H, W) of another class.
        classes: K.
        label: The image's class.
        norm: Linf or L2.
        evaluations: Images of the first estimate of a direction; later ones take more.
        batch_size: Largest number of images of a pass.
    """
    attack = CoarseHopSkipJump(
        estimator(network, x[None], classes=classes),
        batch_size=batch_size,
        norm=ORDERS[norm],
        max_iter=MOST_ITERATIONS,
        init_eval=evaluations,
        max_eval=max(evaluations, MOST_EVALUATIONS),
        verbose=False,
    )
    other = -1  # any class but the image's own, as the start has one
    found = attack._perturb(x.cpu().numpy(), -1, label, other, start.cpu().numpy(), None, 0.0, 1.0)
    return torch.from_numpy(found).to(x)
