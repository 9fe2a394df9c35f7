import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from harness.attacks.results import AttackInput


def _digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).div(16)[:, None].repeat(1, 3, 1, 1)
    return x, torch.tensor(digits.target)


@pytest.fixture(scope="session")
def digits() -> AttackInput:
    """A small net trained on the first 1,500 handwritten digits, and the rest of them."""
    x, y = _digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(512, 10)),
        )
        optimiser = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(4):
            for rows in torch.randperm(1500).split(50):
                optimiser.zero_grad()
                noisy = (x[rows] + 0.1 * torch.randn_like(x[rows])).clamp(0, 1)
                nn.functional.cross_entropy(net(noisy), y[rows]).backward()
                optimiser.step()
    return AttackInput(net.eval().requires_grad_(False), x[1500:1700], y[1500:1700])
