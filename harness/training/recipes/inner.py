"""The inner maximisation of adversarial training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.models.network import Network
from harness.system.lazy import torch
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor


Loss = Callable[["Tensor", "Tensor"], "Tensor"]
"""(logits (N, K), what they are compared with) -> a scalar, summed over the examples so that each gradient is its own."""


def maximise(
    network: Network, x: Tensor, y: Tensor, *, threat_model: ThreatModel, alpha: float, steps: int, loss: Loss, start: Tensor
) -> Tensor:
    """Returns images in the ball around `x` with a large loss, by projected gradient ascent.

    Args:
        network: The network in eval mode, its parameters frozen.
        x: Images (N, 3, H, W) in [0,1].
        y: What the loss compares the logits with, by default labels (N,).
        threat_model: The ball.
        alpha: Step size in pixel units.
        steps: Number of steps.
        loss: The loss, summed over examples.
        start: Where to start, in the ball.

    Source: Madry et al. 2018, https://arxiv.org/abs/1706.06083, section 2.1.
    """
    x_adv = start
    for _ in range(steps):
        gradient = input_gradient(network, x_adv, y, loss)
        x_adv = threat_model.project(x_adv + alpha * steepest(gradient, threat_model.norm), x)
    return x_adv


def input_gradient(network: Network, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Returns the loss's gradient with respect to the images, of the shape of `x`."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(network(x), y), x)
    return gradient


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Returns the direction of steepest ascent, of size one in the norm (Linf or L2); zero where the gradient is zero."""
    if norm is Norm.LINF:
        return gradient.sign()
    lengths = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
    return gradient / lengths.view(-1, 1, 1, 1)


def random_start(x: Tensor, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
    """Returns images drawn uniformly from the ball (Linf or L2) around `x`, clipped to [0,1]."""
    if threat_model.norm is Norm.LINF:
        delta = torch.empty_like(x).uniform_(-1, 1, generator=generator)
    else:
        delta = steepest(torch.empty_like(x).normal_(generator=generator), Norm.L2)
        radius = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device, dtype=x.dtype)
        delta = delta * radius ** (1 / x[0].numel())
    return threat_model.project(x + float(threat_model.eps) * delta, x)


def summed_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the summed cross-entropy: the gradient of a mean would underflow where the model is confident."""
    return torch.nn.functional.cross_entropy(logits, y, reduction="sum")
