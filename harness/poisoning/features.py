"""Penultimate features: what a network's head reads."""

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
    """Returns the layer that turns features into logits.

    That is what timm's `get_classifier()` names where the network, or the backbone in it, has that method; else the
    linear layer that runs last.

    Args:
        model: Images (N, 3, R, R) -> logits (N, K); left as it was found.
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
    """Collects the flattened input (N, D) of a network's head at every forward; the hook is removed on leaving."""
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
        model: A network on `device`, logits (N, K); left as it was found, without hooks.
        split: The examples, streamed.
        device: Where the network is.
        batch_size: Images of one forward.

    Raises:
        ModelError: if the network has no head to read the features from.
    """
    head = find_head(model, split[0][0][None].to(device))
    rows: list[Tensor] = []
    with evaluating(model), torch.no_grad(), captured_features(head) as captured:
        for x in batches(split, batch_size):
            model(x.to(device))
            rows.append(captured.pop().cpu())
    return torch.cat(rows).numpy()


class FeatureProbe(nn.Module):
    """Runs a network, and hands its head's input to the child layer `features`, where a library can read it by name.

    Args:
        model: A network that the probe may keep a hook on.
        x: One image or more, to find the head with.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        """See the class."""
        super().__init__()
        self.net = model
        self.features = nn.Identity()
        find_head(model, x).register_forward_pre_hook(self._hand_over)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the network's logits (N, K)."""
        logits: Tensor = self.net(x)
        return logits

    def _hand_over(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features(inputs[0].flatten(1))
