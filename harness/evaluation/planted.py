"""Networks with planted adversarials: where they lie is known, so an attack that misses them is at fault."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.threat import Norm, ThreatModel

CLASSES = 4
"""Two that matter, and two that are never likely, as some losses compare four logits."""
SIDE = 8
UNLIKELY = -20.0
SATURATED = 8
"""Values that an attack must saturate at the plane of `edges`."""
STEEPNESS = 4
"""How much larger their weights are, at least, than any other."""
DUAL_ORDER = {Norm.LINF: 1.0, Norm.L2: 2.0, Norm.L1: torch.inf}


class Hyperplane(nn.Module):
    """Class 0 on one side of a plane, class 1 on the other: the smallest distance has a closed form.

    Args:
        weight: The plane's normal (C, H, W).
        offset: How high above grey the plane lies, in units of the normal; by default it goes through grey.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, offset: float = 0.0) -> None:
        """See the class."""
        super().__init__()
        self.register_buffer("weight", weight)
        self.offset = offset

    def height(self, x: Tensor) -> Tensor:
        """Returns how far (N,) images lie above the plane, in units of the normal; below 0 is class 0."""
        return ((x - 0.5) * self.weight).flatten(1).sum(dim=1) - self.offset

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, 4)."""
        height = self.height(x)
        return _logits(-height, height)

    def smallest_distance(self, x: Tensor, norm: Norm) -> Tensor:
        """Returns the distance (N,) to the plane, wherever [0,1] ends: height over the dual norm of the normal."""
        return self.height(x).abs() / torch.linalg.vector_norm(self.weight.flatten(), ord=DUAL_ORDER[norm])


class Needles(nn.Module):
    """Class 0 everywhere but close to one planted point a image; the gradient leads there.

    Args:
        points: The planted adversarials (M, C, H, W).
        radius: Distance (L2) from a point up to which the prediction is class 1.
    """

    points: Tensor

    def __init__(self, points: Tensor, radius: float) -> None:
        """See the class."""
        super().__init__()
        self.register_buffer("points", points)
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, 4)."""
        squares = (x[:, None] - self.points[None]).flatten(2).pow(2).sum(dim=2).amin(dim=1)
        margin = 1 - squares / self.radius**2
        return _logits(-margin, margin)


def hyperplane(count: int, threat_model: ThreatModel, *, factor: float, seed: int) -> tuple[nn.Module, Tensor]:
    """Returns a plane, and images (count, 3, 8, 8) whose smallest distance is the budget over `factor`.

    Args:
        count: Number of images; half on either side.
        threat_model: Norm and budget.
        factor: How much larger than the smallest distance the budget is.
        seed: Seeds plane and images.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, SIDE, SIDE, generator=generator)
    net = Hyperplane(weight)
    x = 0.5 + 0.1 * (torch.rand(count, 3, SIDE, SIDE, generator=generator) - 0.5)
    on_plane = ((x - 0.5) * weight).flatten(1).sum(dim=1) / weight.pow(2).sum()
    dual = torch.linalg.vector_norm(weight.flatten(), ord=DUAL_ORDER[threat_model.norm])
    height = float(threat_model.eps) / factor * dual / weight.pow(2).sum()
    sides = torch.where(torch.arange(count) % 2 == 0, 1.0, -1.0)
    return net, x + ((sides * height - on_plane).view(-1, 1, 1, 1) * weight)


def needles(count: int, threat_model: ThreatModel, *, factor: float, seed: int) -> tuple[nn.Module, Tensor]:
    """Returns a net with a needle inside the ball of each image, and the images (count, 3, 8, 8).

    Args:
        count: Number of images.
        threat_model: Norm and budget.
        factor: How much larger than the distance of the needle's point the budget is.
        seed: Seeds images and needles.
    """
    generator = torch.Generator().manual_seed(seed)
    x = 0.35 + 0.3 * torch.rand(count, 3, SIDE, SIDE, generator=generator)
    signs = torch.where(torch.rand(x.shape, generator=generator) < 0.5, -1.0, 1.0)
    unit = signs / threat_model.distance(signs, torch.zeros_like(signs)).view(-1, 1, 1, 1)
    points = x + float(threat_model.eps) / factor * unit
    radius = 0.5 * float((points - x).flatten(1).norm(dim=1).min())
    return Needles(points, radius), x


def edges(count: int, threat_model: ThreatModel, *, factor: float, seed: int) -> tuple[nn.Module, Tensor]:
    """Returns a plane, and images (count, 3, 8, 8) whose steepest values reach 0 or 1 long before the plane is crossed.

    Of an L1 budget they leave room for an eighth each: an attack that does not turn to other values once some are saturated
    moves no further. The plane is reached when all of them are.

    Args:
        count: Number of images, all below the plane.
        threat_model: Norm and budget.
        factor: How much larger than the L1 distance of the plane, inside [0,1], the budget is.
        seed: Seeds plane and images.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(3 * SIDE * SIDE, generator=generator) * torch.randn(3 * SIDE * SIDE, generator=generator).sign()
    steepest = torch.zeros_like(weight, dtype=torch.bool)
    steepest[torch.randperm(len(weight), generator=generator)[:SATURATED]] = True
    weight[steepest] = weight[steepest].sign() * (STEEPNESS + weight[steepest].abs())
    room = float(threat_model.eps) / factor / SATURATED
    x = 0.45 + 0.1 * torch.rand(count, len(weight), generator=generator)
    flat = weight * ~steepest
    x -= ((x - 0.5) @ flat / flat.pow(2).sum())[:, None] * flat
    x[:, steepest] = torch.where(weight[steepest] > 0, 1 - room, room)
    net = Hyperplane(weight.view(3, SIDE, SIDE), offset=float(weight[steepest].abs().sum()) / 2)
    return net, x.view(count, 3, SIDE, SIDE)


Plant = Callable[..., tuple[nn.Module, Tensor]]
PLANTS: dict[str, Plant] = {"hyperplane": hyperplane, "needles": needles, "edges": edges}
"""All nets of this file, with images in whose balls an adversarial lies."""


def _logits(first: Tensor, second: Tensor) -> Tensor:
    unlikely = torch.full_like(first, UNLIKELY)
    return torch.stack([first, second, unlikely, unlikely - 1], dim=1)
