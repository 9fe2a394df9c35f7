"""The network as the attack sees it: in eval mode, its parameters frozen, its batch norms folded into convolutions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from harness.models.copying import deep_copy
from harness.models.folding import foldable_pairs, without_norm

COPYING = (nn.SiLU, nn.Hardswish, nn.Mish)
"""Activations whose backward pass needs their input: computing them in place makes autograd copy it first."""
TOLERANCE = 1e-3
"""Largest difference between the logits of the folded and the plain network, relative to the largest logit."""


class Fold(NamedTuple):
    """A convolution of the twin and the live layers that it stands for."""

    folded: nn.Conv2d
    convolution: nn.Conv2d
    batch_norm: nn.BatchNorm2d

    @torch.no_grad()
    def refresh(self) -> None:
        """Takes the live layers' present weights and statistics."""
        norm, old = self.batch_norm, self.convolution
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = (variance + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        shift = (0 if old.bias is None else old.bias) - mean
        self.folded.weight.copy_(old.weight * scale.view(-1, 1, 1, 1))
        cast(Tensor, self.folded.bias).copy_(shift * scale + (0 if norm.bias is None else norm.bias))


class Twin:
    """A copy of a network that shares its memory, for attacks during training.

    An attack needs the gradient of the input alone, in eval mode. The twin is always in eval mode and never asks for
    gradients of parameters, so the live network's modes, flags and gradients are not touched at all: a frozen batch norm
    stays frozen. Its weights are the live network's own memory, apart from those of folded convolutions, which `refresh`
    computes anew; that saves a third of an attack's time on EfficientNet-B0 on a CPU.

    Args:
        model: The live network.
        example: Images (N, 3, H, W), by which the layers that follow each other are found.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        """See the class."""
        self.network, self._folds = _folded(model, example)

    def refresh(self) -> None:
        """Follows the live network after an update."""
        for fold in self._folds:
            fold.refresh()


@contextmanager
def without_copying_activations(model: nn.Module) -> Iterator[None]:
    """Computes the activations of `COPYING` out of place, as they would copy their input otherwise."""
    layers = [module for module in model.modules() if isinstance(module, COPYING) and module.inplace]
    for layer in layers:
        layer.inplace = False
    try:
        yield
    finally:
        for layer in layers:
            layer.inplace = True


def _folded(model: nn.Module, example: Tensor) -> tuple[nn.Module, list[Fold]]:
    """Returns a twin with as much folded as gives the plain network's logits, and the folds."""
    plain = _sharing_copy(model)
    network = _sharing_copy(model)
    folds = [_fold(network, model, *pair) for pair in foldable_pairs(plain, example)]
    for fold in folds:
        fold.refresh()
    with torch.no_grad():
        expected, found = plain(example), network(example)
    same = bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())
    return (network, folds) if same else (plain, [])


def _sharing_copy(model: nn.Module) -> nn.Module:
    """Copies the modules of a network and shares the memory of its tensors; in eval mode, parameters frozen."""
    weights = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in model.parameters()}
    twin = deep_copy(model, {**weights, **{id(buffer): buffer for buffer in model.buffers()}}).eval()
    for module in twin.modules():
        if isinstance(module, COPYING):
            module.inplace = False
    return twin


def _fold(network: nn.Module, model: nn.Module, convolution: str, batch_norm: str) -> Fold:
    """Gives a convolution of `network` weights of its own and leaves of its batch norm the activation only."""
    folded, norm = network.get_submodule(convolution), network.get_submodule(batch_norm)
    live, live_norm = model.get_submodule(convolution), model.get_submodule(batch_norm)
    folded.weight = nn.Parameter(torch.empty_like(cast(Tensor, live.weight)), requires_grad=False)
    folded.bias = nn.Parameter(torch.empty_like(cast(Tensor, live_norm.running_mean)), requires_grad=False)
    network.set_submodule(batch_norm, without_norm(norm))
    return Fold(cast(nn.Conv2d, folded), cast(nn.Conv2d, live), cast(nn.BatchNorm2d, live_norm))
