"""Forms of a network that run faster and compute the same: what attacks differentiate thousands of times.

Measured on 2 CPU cores with EfficientNet-B0 at 128x128, batches of 32, forward and backward to the input, CPU time of
one batch: as given 1.33 s, parameters frozen 1.30, channels_last 1.03, BatchNorm folded 0.75, activations not in
place 0.71. bfloat16 took 1.48 (its depthwise convolutions have no fast backward pass on CPUs), torch.compile 0.65
after two minutes of compiling; both are options.
"""

import copy
import logging
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from harness.models.folding import foldable_pairs, without_norm
from harness.modes import evaluating
from harness.spec import Spec

logger = logging.getLogger(__name__)

AGREEMENT = 1e-4
"""Largest difference of logits, relative to the largest logit, at which a float32 form counts as the same network."""
AGREEMENT_BFLOAT16 = 0.1
"""The same for bfloat16, which keeps 8 bits of each product."""


class Inference(Spec):
    """How a network is made faster for attacks; every success is judged by the network as given, in float32."""

    channels_last: bool = True
    """Lay images out with their channels last."""
    fold_batchnorm: bool = True
    """Multiply BatchNorm into the convolution before it, where that changes nothing."""
    compile: bool = False
    """Compile with torch.compile; batches are padded to at most three sizes, each compiled once."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the forward and backward passes of attacks."""


AS_GIVEN = Inference(channels_last=False, fold_batchnorm=False)
"""Attack the network exactly as it is given."""


class Form(nn.Module):
    """A network behind a change of layout and number format: float32 images in, float32 logits out."""

    def __init__(self, network: nn.Module, inference: Inference) -> None:
        """See the class."""
        super().__init__()
        self.network, self.inference = network, inference
        self.padded: Padded | None = None

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout that images are brought into."""
        return torch.channels_last if self.inference.channels_last else torch.contiguous_format

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W) in [0,1]."""
        x = x.to(dtype=getattr(torch, self.inference.dtype), memory_format=self.memory_format)
        return cast(Tensor, (self.padded or self.network)(x)).float()

    def compiled(self) -> "Form":
        """Returns the same form, compiled at its first call."""
        form = Form(self.network, self.inference)
        form.padded = Padded(cast(Callable[[Tensor], Tensor], torch.compile(self.network, dynamic=False)))
        return form.eval()


class Padded:
    """Calls a compiled network with batches of few sizes: the largest one seen, its half and its quarter.

    Every size is compiled once; a smaller batch is filled up with copies of its first image.
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        """See the class."""
        self.network = network
        self.largest = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Returns logits (n, K) for images (n, C, H, W)."""
        self.largest = max(self.largest, len(x))
        sizes = (max(1, self.largest // 4), max(1, self.largest // 2), self.largest)
        missing = next(size for size in sizes if size >= len(x)) - len(x)
        filled = torch.cat([x, x[:1].detach().expand(missing, -1, -1, -1)]) if missing else x
        return self.network(filled)[: len(x)]


def inference_form(model: nn.Module, probe: Tensor, inference: Inference = Inference()) -> nn.Module:  # noqa: B008 - frozen
    """Returns a frozen copy of a network in the form asked for, or the nearest form that computes the same.

    Args:
        model: The network, images in [0,1] to logits (N, K); left as it is.
        probe: A few images (n, C, H, W) on the network's device; on them form and network must agree.
        inference: What to change.

    Returns:
        The form in eval mode; the network itself if it cannot be copied, or computes something else in every form.
    """
    if inference == AS_GIVEN:
        return model
    with evaluating(model), torch.no_grad():
        wanted = model(probe)
    for attempt in (inference, inference.model_copy(update={"fold_batchnorm": False})):
        try:
            form = _build(model, probe, attempt)
            with torch.no_grad():
                difference = float((form(probe) - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
        except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            logger.warning("inference form %s not possible: %s", attempt, error)
            continue
        if difference <= (AGREEMENT if inference.dtype == "float32" else AGREEMENT_BFLOAT16):
            return form.compiled() if inference.compile else form
        logger.warning("inference form %s differs by %.2g of the largest logit", attempt, difference)
    return model


def _build(model: nn.Module, probe: Tensor, inference: Inference) -> Form:
    network = copy.deepcopy(model).eval().requires_grad_(False)
    if inference.fold_batchnorm:
        fold_batchnorm(network, probe)
    for module in network.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010 - autograd would copy the input of an in-place activation first
    network = network.to(dtype=getattr(torch, inference.dtype))
    if inference.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Form(network, inference).eval()


def fold_batchnorm(network: nn.Module, probe: Tensor) -> int:
    """Multiplies every BatchNorm that directly follows a convolution into it, in place, and returns their number.

    timm's BatchNorm layers with a built-in activation keep the activation.

    Args:
        network: A network in eval mode whose parameters are frozen.
        probe: A few images (n, C, H, W).
    """
    pairs = foldable_pairs(network, probe)
    for convolution, batch_norm in pairs:
        conv, norm = cast(nn.Conv2d, network.get_submodule(convolution)), cast(nn.BatchNorm2d, network.get_submodule(batch_norm))
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
        conv.requires_grad_(False)
        network.set_submodule(batch_norm, without_norm(norm))
    return len(pairs)
