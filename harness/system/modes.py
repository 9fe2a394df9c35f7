"""Guards that restore a network on leaving: modes per module, buffers, gradients, requires_grad; and torch's own settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextmanager
def usual_torch() -> Iterator[None]:
    """Sets torch's defaults inside the block, and restores the caller's choices on leaving.

    Networks and attack libraries need them: new tensors in float32 on the CPU, autograd on, no autocast. Where nothing has
    imported torch yet, they are set already.
    """
    if "torch" not in sys.modules:
        with ExitStack() as stack:
            stack.callback(_set_initial_dtype)
            yield
        return
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, dtype)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        yield


def _set_initial_dtype() -> None:
    """Undoes what modules that were imported meanwhile may have chosen."""
    if "torch" in sys.modules:
        torch.set_default_dtype(torch.float32)


def modules_with_mode(network: nn.Module) -> list[nn.Module]:
    """Returns the modules of a network that have a mode; those frozen by `torch.jit.freeze` have none."""
    return [module for module in network.modules() if hasattr(module, "training")]


def set_eval(network: nn.Module) -> None:
    """Puts a network into eval mode; one exported by `torch.export` refuses `eval()`, so its modules are set one by one."""
    try:
        network.eval()
    except NotImplementedError:
        for module in modules_with_mode(network):
            module.training = False


class ModuleLists:
    """Several networks as one, with modules, parameters and buffers listed once.

    Without the lists each guard would walk the network anew: a millisecond for hundreds of modules.

    Args:
        networks: Networks that keep their modules; one may come twice.
    """

    def __init__(self, *networks: nn.Module) -> None:
        """See the class."""
        self._networks = tuple(dict.fromkeys(networks))
        self._modules = [module for network in self._networks for module in modules_with_mode(network)]
        self._parameters = [parameter for network in self._networks for parameter in network.parameters()]
        self._buffers = [buffer for network in self._networks for buffer in network.buffers()]

    def modules(self) -> Sequence[nn.Module]:
        """Returns all modules that have a mode."""
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
            set_eval(network)


@contextmanager
def preserved_modes(model: nn.Module | ModuleLists) -> Iterator[list[bool]]:
    """Restores `training` of every single module on leaving: a frozen BatchNorm stays frozen.

    Setting the mode of the root alone would overwrite the modes of all modules below it. Gives out the modes as they were.
    """
    modules = model.modules() if isinstance(model, ModuleLists) else modules_with_mode(model)
    modes = [(module, module.training) for module in modules]
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
            model.eval() if isinstance(model, ModuleLists) else set_eval(model)
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
            with torch.inference_mode(parameter.is_inference()):  # torch refuses it outside for what was made inside
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
