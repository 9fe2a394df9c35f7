"""Finished models for tests: a small network, files of it, and suites that judge it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.spec import parse_spec
from harness.suites.suite import Suite
from tests.nets import small_convnet

DIGITS = tuple(map(str, range(10)))
FACTORY = {"name": "factory", "factory": "tests.nets:small_convnet", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
NORMALISED = "tests.finished:network"


class Normalised(nn.Module):
    """`small_convnet` with its normalisation inside."""

    def __init__(self, network: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images in [0,1]."""
        return self.network((x - 0.5) / 0.5)


def network(num_classes: int = 10, seed: int = 0) -> nn.Module:
    """Returns a small network in eval mode, without normalisation, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return small_convnet(num_classes).eval()


def save_state(path: Path, *, seed: int = 0, prefix: str = "", under: str = "") -> Path:
    """Writes the network's state dict, perhaps with a prefix before each name, or under a key of a checkpoint."""
    state: object = {prefix + name: tensor for name, tensor in network(seed=seed).state_dict().items()}
    torch.save({"epoch": 3, under: state} if under else state, path)
    return path


def save_script(path: Path) -> Path:
    """Writes the network with its normalisation as TorchScript."""
    torch.jit.script(Normalised(network())).save(str(path))
    return path


def judging(models: Mapping[str, Any], **fields: Any) -> Suite:
    """Returns a suite on small digits with two attacks and 30 examples."""
    common = {
        "name": "judging",
        "dataset": {"name": "digits", "resolution": 16},
        "threat_model": {"norm": "Linf", "eps": ["4/255", "16/255"]},
        "attacks": {"fgsm": {"name": "fgsm"}, "pgd": {"name": "pgd", "steps": 2}},
        "evaluation": {"limit": 30},
    }
    return parse_spec(Suite, {**common, "models": dict(models), **fields}, where="judging")
