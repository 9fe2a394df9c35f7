"""Adversarial weight perturbation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def adversarial_weights(model: nn.Module, ascent: Callable[[list[nn.Parameter]], list[Tensor]], gamma: float) -> Iterator[None]:
    """Moves each weight tensor inside the block, by gamma times its own norm in the direction that raises the loss.

    Gradients computed in the block are those at the moved weights; afterwards the weights are bit-equal to those before.
    Biases and norms (one axis) do not move. Buffers that `ascent` changes, such as batch-norm statistics, are restored.

    Args:
        model: The network.
        ascent: Returns the gradient of the loss for each of the given weights.
        gamma: Size of the perturbation, relative to the norm of each weight tensor.

    Source: Wu et al. 2020, https://arxiv.org/abs/2004.05884, equations 8 to 11, one step.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim > 1]
    kept = [weight.detach().clone() for weight in weights]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = ascent(weights)
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.add_(gradient * (gamma * weight.norm() / gradient.norm().clamp(min=torch.finfo(weight.dtype).tiny)))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
