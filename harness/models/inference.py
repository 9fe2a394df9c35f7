"""Forms of a network that run faster and compute the same: what attacks differentiate thousands of times.

Measured on 2 CPU cores with EfficientNet-B0 at 128x128, batches of 32, forward and backward to the input, CPU time of
one batch: as given 1.33 s, parameters frozen 1.30, channels_last 1.03, BatchNorm folded 0.75, activations not in
place 0.71. bfloat16 takes about twice as long (its depthwise convolutions have no fast backward pass on CPUs),
torch.compile 0.65 after two minutes of compiling; both are options.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from harness.models.agreement import relative_difference
from harness.models.compiling import Padded, compiled
from harness.models.copying import deep_copy
from harness.models.folding import foldable_pairs, without_norm
from harness.models.layout import NumberFormat, quick_layout
from harness.spec import Spec
from harness.system.memory import laid_out_as
from harness.system.modes import evaluating, set_eval

logger = logging.getLogger(__name__)

AGREEMENT: Mapping[NumberFormat, float] = {"float32": 1e-4, "bfloat16": 0.1}
"""Largest difference of logits, relative to the largest logit, at which a form counts as the same network; bfloat16 keeps 8
bits of each factor."""


class Inference(Spec):
    """How a network is made faster for attacks; every success is judged by the network as given, in float32."""

    channels_last: bool = True
    """Lay images out with their channels last, where `quick_layout` says that it pays."""
    fold_batchnorm: bool = True
    """Multiply BatchNorm into the convolution before it, where that changes nothing."""
    compile: bool = False
    """Compile with torch.compile; batches are padded to at most three sizes, each compiled when it is first met."""
    precision: NumberFormat = "float32"
    """Number format of the products and convolutions in the passes of attacks: bfloat16 by autocast."""

    def settings(self) -> dict[str, Any]:
        """Returns what differs from the default, in plain JSON values: digests are taken over that alone."""
        return self.model_dump(mode="json", exclude_defaults=True)


AS_GIVEN = Inference(channels_last=False, fold_batchnorm=False)
"""Attack the network exactly as it is given."""


class Form(nn.Module):
    """A network behind a change of layout and number format: float32 images in, float32 logits out.

    The layout that images are brought into is its `memory_format`; gradients come back in the layout that the images had, as
    attacks may view them as rows.

    Under autocast, convolutions and products round what goes into them to bfloat16; the images, their normalisation and the
    loss stay in float32.
    """

    def __init__(self, network: nn.Module, inference: Inference, memory_format: torch.memory_format) -> None:
        """See the class."""
        super().__init__()
        self.network, self.inference, self.memory_format = network, inference, memory_format
        self.padded: Padded | None = None
        self.training = network.training

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W) in [0,1]."""
        entry = x.view_as(x)
        if entry.requires_grad:
            entry.register_hook(lambda gradient: laid_out_as(gradient, x))
        with self._number_format(x.device):
            return cast(Tensor, (self.padded or self.network)(entry.to(memory_format=self.memory_format))).float()

    def _number_format(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.inference.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)

    @property
    def is_compiled(self) -> bool:
        """Whether its passes are those of a compiled network."""
        return self.padded is not None and self.padded.works

    def compiled(self, image: Tensor, *, largest: int) -> "Form":
        """Returns the same form, compiled for batches of up to `largest` images; itself where that fails.

        Args:
            image: One image (1, C, H, W), on which the compiled network must agree with this one.
            largest: Images of a full batch.
        """
        batch = image.expand(largest, -1, -1, -1).contiguous(memory_format=self.memory_format)
        with self._number_format(image.device), torch.enable_grad():
            network = compiled(self.network, batch, dynamic=False)
        if network is self.network:
            return self
        form = Form(self.network, self.inference, self.memory_format)
        form.padded = Padded(network, self.network, largest=largest)
        with torch.enable_grad():  # without gradients it would be compiled anew
            logits = form(batch.requires_grad_()).detach()
        return form if self.agrees(logits, self(image).detach().expand_as(logits), what="compiled") else self

    def agrees(self, logits: Tensor, wanted: Tensor, *, what: str) -> bool:
        """Returns whether logits (n, K) are near enough to those wanted; says so where they are not."""
        difference = relative_difference(logits, wanted)
        if difference <= AGREEMENT[self.inference.precision]:
            return True
        logger.warning("inference form %s: %s, it differs by %.2g of the largest logit", self.inference, what, difference)
        return False


def inference_form(
    model: nn.Module,
    probe: Tensor,
    inference: Inference = Inference(),  # noqa: B008 - frozen
    *,
    largest: int | None = None,
) -> nn.Module:
    """Returns a frozen copy of a network in the form asked for, or the nearest form that computes the same.

    Args:
        model: The network, images in [0,1] to logits (N, K); left as it is.
        probe: A few images (n, C, H, W) on the network's device; on them form and network must agree.
        inference: What to change.
        largest: Images of a full batch, for a form that is compiled; as many as in the probe if not given.

    Returns:
        The form in eval mode; the network itself if it cannot be copied, or computes something else in every form.
    """
    if inference == AS_GIVEN:
        return model
    if _is_scripted(model):
        level = logging.WARNING if inference.settings() else logging.INFO  # nobody asked for the default form
        logger.log(level, "inference form %s not possible: TorchScript is attacked as it is", inference)
        return model
    with evaluating(model), torch.no_grad():
        wanted = model(probe)
    for attempt in _attempts(inference):
        try:
            form = _build(model, probe, attempt)
            with torch.no_grad():
                logits = form(probe)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the copy of a caller's network, or a pass of it in another layout, may fail in any way
            logger.warning("inference form %s not possible: %s", attempt, error)
            continue
        if form.agrees(logits, wanted, what="given up"):
            return form.compiled(probe[:1], largest=largest or len(probe)) if inference.compile else form
    return model


def _attempts(inference: Inference) -> Iterator[Inference]:
    """Yields the form asked for, then those that change less: without folding, and in float32."""
    for precision in dict.fromkeys((inference.precision, "float32")):
        for fold in dict.fromkeys((inference.fold_batchnorm, False)):
            yield inference.model_copy(update={"precision": precision, "fold_batchnorm": fold})


def _build(model: nn.Module, probe: Tensor, inference: Inference) -> Form:
    network = _sharing_copy(model).requires_grad_(False)
    set_eval(network)
    if inference.fold_batchnorm:
        fold_batchnorm(network, probe)
    for module in network.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010 - autograd would copy the input of an in-place activation first
    layout = quick_layout(probe.device, inference.precision) if inference.channels_last else torch.contiguous_format
    network.to(memory_format=layout)
    _set_apart(network, model)
    return Form(network, inference, layout)


def _is_scripted(model: nn.Module) -> bool:
    """Returns whether a part of a network is TorchScript: its graph is fixed, and its weights may be constants of it."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def _sharing_copy(model: nn.Module) -> nn.Module:
    """Returns a copy of a network that shares its weights: most of them, folded or laid out anew, would be copied in vain."""
    plain = (weight for weight in model.parameters() if type(weight) is nn.Parameter)
    return deep_copy(model, {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in plain})


def _set_apart(network: nn.Module, model: nn.Module) -> None:
    """Gives a copy of a network memory of its own for all weights that it still shares with it."""
    shared = {weight.data_ptr() for weight in model.parameters()}
    for weight in network.parameters():
        if weight.data_ptr() in shared:
            weight.data = weight.data.clone()


def fold_batchnorm(network: nn.Module, probe: Tensor) -> int:
    """Multiplies every BatchNorm that directly follows a convolution into it, in place, and returns their number.

    timm's BatchNorm layers with a built-in activation keep the activation.

    Args:
        network: A network in eval mode whose parameters are frozen.
        probe: A few images (n, C, H, W).
    """
    pairs, modules = foldable_pairs(network, probe), dict(network.named_modules())
    for convolution, batch_norm in pairs:
        conv, norm = cast(nn.Conv2d, modules[convolution]), cast(nn.BatchNorm2d, modules[batch_norm])
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
        conv.requires_grad_(False)
        parent, _, name = batch_norm.rpartition(".")
        setattr(modules[parent], name, without_norm(norm))
    return len(pairs)
