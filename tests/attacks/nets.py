"""Networks whose smallest adversarial perturbations, gradients or faults are known."""

from fractions import Fraction

import torch
from torch import Tensor, nn

from harness.attacks.base import ATTACKS, Attack
from harness.threat import Norm, ThreatModel

CLASSES = 4
SIDE = 8


class LinearNet(nn.Module):
    """Logits are linear in the pixels: the nearest decision boundary has a closed form.

    The last two classes are never likely, so the cross-entropy too points to the nearest boundary.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.head = nn.Linear(3 * SIDE * SIDE, CLASSES)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=generator) * 0.1)
            self.head.bias.copy_(-self.head.weight.sum(dim=1) * 0.5 - torch.tensor([0.0, 0.0, 20.0, 21.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))

    def smallest_distance(self, x: Tensor, norm: Norm) -> Tensor:
        """Distance (N,) to the nearest decision boundary: margin over the dual norm of the difference of weights."""
        logits, labels = self(x), self(x).argmax(dim=1)
        margins = logits.gather(1, labels[:, None]) - logits
        weights = self.head.weight[labels][:, None] - self.head.weight[None]
        order = {Norm.LINF: 1, Norm.L2: 2, Norm.L1: torch.inf}[norm]
        ratios = margins / torch.linalg.vector_norm(weights, ord=order, dim=2)
        return ratios.scatter(1, labels[:, None], torch.inf).amin(dim=1).detach()


def images(count: int, seed: int = 0, low: float = 0.3, high: float = 0.7) -> Tensor:
    """Random images, far enough from 0 and 1 that small perturbations are not clipped."""
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def clear_images(net: LinearNet, count: int) -> Tensor:
    """Images that lie far from the decision boundary, compared with the steps of attacks."""
    pool = images(count * 20)
    return pool[net.smallest_distance(pool, Norm.L2).topk(count).indices]


def conv_net(seed: int = 0) -> nn.Module:
    """A small net with BatchNorm and Dropout, in eval mode, with running statistics of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.SiLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(64, CLASSES),
        )
        with torch.no_grad():
            for _ in range(20):
                net(torch.rand(16, 3, SIDE, SIDE))
            net[-1].weight.mul_(8)
        return net.eval()


def threat(eps: str | Fraction = "8/255", norm: str = "Linf", *, targeted: bool = False) -> ThreatModel:
    return ThreatModel(norm=norm, eps=eps, targeted=targeted)


def attack_of(name: str, **fields: object) -> Attack:
    return ATTACKS.parse({"name": name, **fields})
