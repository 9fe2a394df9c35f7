"""Guards that give a network back as it was found: modes per module, buffers, gradients, requires_grad."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ModuleLists:
    """Networks seen as one, with modules, parameters and buffers listed once.

    The guards below walk a network of hundreds of modules in about a millisecond, each of them and each time anew.

    Args:
        networks: Networks that keep their modules; one may come twice.
    """

    def __init__(self, *networks: nn.Module) -> None:
        """See the class."""
        self._networks = tuple(dict.fromkeys(networks))
        self._modules = [module for network in self._networks for module in network.modules()]
        self._parameters = [parameter for network in self._networks for parameter in network.parameters()]
        self._buffers = [buffer for network in self._networks for buffer in network.buffers()]

    def modules(self) -> Sequence[nn.Module]:
        """Returns all modules."""
        return self._modules

    def parameters(self) -> Sequence[nn.Parameter]:
        """Returns all parameters."""
        return self._parameters

    def buffers(self) -> Sequence[Tensor]:
        """Returns all buffers."""
        return self._buffers

    def eval(self) -> None:
        """Puts all networks into eval mode."""
        for network in self._networks:
            network.eval()


@contextmanager
def preserved_modes(model: nn.Module | ModuleLists) -> Iterator[list[bool]]:
    """Restores `training` of every single module on leaving: a frozen BatchNorm stays frozen.

    Setting the mode of the root alone would overwrite the modes of all modules below it. Gives out the modes as they were.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield [training for _, training in modes]
    finally:
        for module, training in modes:
            if module.training != training:  # a module's attributes are slow to set, and a network has hundreds
                module.training = training


@contextmanager
def evaluating(model: nn.Module | ModuleLists) -> Iterator[None]:
    """Puts the whole network into eval mode, and every module back into its own mode on leaving."""
    with preserved_modes(model) as modes:
        if any(modes):
            model.eval()
        yield


@contextmanager
def frozen_parameters(model: nn.Module | ModuleLists) -> Iterator[None]:
    """Turns off `requires_grad` of all parameters, so that a backward pass reaches only the input."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def guarded(*networks: nn.Module) -> Iterator[ModuleLists]:
    """Puts networks into eval mode, their parameters frozen, and gives them back as they were; gives out their modules."""
    lists = ModuleLists(*networks)
    with evaluating(lists), frozen_parameters(lists):
        yield lists


@contextmanager
def preserved_buffers(model: nn.Module | ModuleLists) -> Iterator[None]:
    """Restores the values of all buffers on leaving: a pass in training mode moves BatchNorm's statistics."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in kept:
                buffer.copy_(values)
