"""Penultimate features: the input of a network's head."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.errors import ModelError
from harness.images import ImageSplit
from harness.system.modes import evaluating


def batches(split: ImageSplit, batch_size: int) -> Iterator[Tensor]:
    """Yields the images of a split in its order, (B, 3, R, R)."""
    for start in range(0, len(split), batch_size):
        yield torch.stack([split[index][0] for index in range(start, min(start + batch_size, len(split)))])


def find_head(model: nn.Module, x: Tensor) -> nn.Module:
    """Returns the layer that computes logits from features.

    That is the result of timm's `get_classifier()` if the network, or its backbone, has that method; else the linear layer
    that runs last.

    Args:
        model: Images (N, 3, R, R) -> logits (N, K); left unchanged.
        x: One image or more, on the device of the model.

    Raises:
        ModelError: if the network has no such layer.
    """
    named = getattr(getattr(model, "backbone", model), "get_classifier", None)
    if named is not None and isinstance(head := named(), nn.Linear | nn.Conv2d):
        return head
    ran: list[nn.Module] = []
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_hook(lambda module, inputs, output: ran.append(module)) for module in linear]
    try:
        with evaluating(model), torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran:
        raise ModelError(
            f"{type(model).__name__}: expected a network that ends in a linear layer, found none to read features from"
        )
    return ran[-1]


@contextmanager
def captured_features(head: nn.Module) -> Iterator[list[Tensor]]:
    """Yields a list that collects the flattened input (N, D) of a network's head at each forward; removes its hook afterwards."""
    captured: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0].flatten(1)))
    try:
        yield captured
    finally:
        hook.remove()


def penultimate_features(
    model: nn.Module, split: ImageSplit, *, device: torch.device | str, batch_size: int
) -> NDArray[np.float32]:
    """Returns the features of every example of a split, (N, D).

    Args:
        model: A network on `device`, logits (N, K); left unchanged, without hooks.
        split: The examples, read one batch at a time.
        device: Where the network is.
        batch_size: Images of one forward pass.

    Raises:
        ModelError: if the network has no head whose input could be read.
    """
    head = find_head(model, split[0][0][None].to(device))
    rows: list[Tensor] = []
    with evaluating(model), torch.no_grad(), captured_features(head) as captured:
        for x in batches(split, batch_size):
            model(x.to(device))
            rows.append(captured.pop().cpu())
    return torch.cat(rows).numpy()


class FeatureProbe(nn.Module):
    """A network whose child layer `features` gets the head's input, where a library can read it by name.

    Args:
        model: A network; the probe leaves a hook on it.
        x: One image or more, to find the head.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        """See the class."""
        super().__init__()
        self.net = model
        self.features = nn.Identity()
        find_head(model, x).register_forward_pre_hook(self._pass_on)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the network's logits (N, K)."""
        logits: Tensor = self.net(x)
        return logits

    def _pass_on(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features(inputs[0].flatten(1))
