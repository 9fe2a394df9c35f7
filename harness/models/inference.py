"""Inference forms of a network: they compute the same faster, and attacks differentiate them thousands of times.

docs/performance.md has what each part of a form gains.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.models.agreement import relative_difference
from harness.models.compiling import Padded, compiled
from harness.models.copying import sharing_copy
from harness.models.folding import fold_batchnorm
from harness.models.layout import AS_GIVEN, Inference, NumberFormat, quick_layout
from harness.models.reference import differentiated
from harness.system.memory import laid_out_as
from harness.system.modes import evaluating, set_eval
from harness.system.out_of_memory import is_out_of_memory

logger = logging.getLogger(__name__)

AGREEMENT: Mapping[NumberFormat, float] = {"float32": 1e-4, "bfloat16": 0.1}
"""Largest difference of logits, relative to the largest logit, at which an inference form counts as the same network;
bfloat16 keeps 8 bits of each factor."""


class InferenceForm(nn.Module):
    """A network with a layout and number format of its own: float32 images in, float32 logits out.

    It converts images to the layout `memory_format`. Gradients have the layout of the images given, as attacks may view them as
    rows. Under autocast, convolutions and products round their inputs to bfloat16; the images, their normalisation and the
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
        """Whether a compiled network computes its passes."""
        return self.padded is not None and self.padded.works

    def compiled(self, image: Tensor, *, largest: int) -> "InferenceForm":
        """Returns the same inference form, compiled for batches of up to `largest` images; itself where that fails.

        Args:
            image: One image (1, C, H, W); on it the compiled network must agree with this one.
            largest: Images of a full batch.
        """
        batch = image.expand(largest, -1, -1, -1).contiguous(memory_format=self.memory_format)
        with self._number_format(image.device), torch.enable_grad():
            network = compiled(self.network, batch, dynamic=False)
        if network is self.network:
            return self
        form = InferenceForm(self.network, self.inference, self.memory_format)
        form.padded = Padded(network, self.network, largest=largest)
        with torch.enable_grad():  # without gradients it would be compiled again
            logits = form(batch.requires_grad_()).detach()
        return form if self.agrees(logits, self(image).detach().expand_as(logits), what="compiled") else self

    def agrees(self, logits: Tensor, wanted: Tensor, *, what: str) -> bool:
        """Returns whether logits (n, K) are near enough to those wanted; logs a warning where they are not."""
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
    """Returns the inference form of a network, a frozen copy, or the nearest inference form that computes the same.

    Args:
        model: The network, images in [0,1] to logits (N, K); left as it is.
        probe: A few images (n, C, H, W) on the network's device; on them both must agree.
        inference: What to change.
        largest: Images of a full batch, if the inference form is compiled; as many as in the probe by default.

    Returns:
        The inference form in eval mode; the network itself if it cannot be copied, or computes something else in every form.
        Of a network that another runtime computes it is the form of the one that is differentiated in its place.
    """
    if inference == AS_GIVEN or (source := differentiated(model)) is None:
        return model
    if _is_scripted(source):
        level = logging.WARNING if inference.settings() else logging.INFO  # the user did not choose the default
        logger.log(level, "inference form %s not possible: TorchScript is attacked as it is", inference)
        return model
    with evaluating(source), torch.no_grad():
        wanted = source(probe)
    for attempt in _attempts(inference):
        try:
            form = _build(source, probe, attempt)
            with torch.no_grad():
                logits = form(probe)
        except Exception as error:  # copying a caller's network, or a pass of it in another layout, may raise any error
            if is_out_of_memory(error):
                raise
            logger.warning("inference form %s not possible: %s", attempt, error)
            continue
        if form.agrees(logits, wanted, what="given up"):
            return form.compiled(probe[:1], largest=largest or len(probe)) if inference.compile else form
    return model


def _attempts(inference: Inference) -> Iterator[Inference]:
    """Yields the settings asked for, then those that change less: without folding, and in float32."""
    for precision in dict.fromkeys((inference.precision, "float32")):
        for fold in dict.fromkeys((inference.fold_batchnorm, False)):
            yield inference.model_copy(update={"precision": precision, "fold_batchnorm": fold})


def _build(model: nn.Module, probe: Tensor, inference: Inference) -> InferenceForm:
    plain = (weight for weight in model.parameters() if type(weight) is nn.Parameter)
    network = sharing_copy(model, plain).requires_grad_(False)  # folding or the layout replaces most of them afterwards
    set_eval(network)
    if inference.fold_batchnorm:
        fold_batchnorm(network, probe)
    for module in network.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010 - autograd would copy the input of an in-place activation first
    layout = quick_layout(probe.device, inference.precision) if inference.channels_last else torch.contiguous_format
    network.to(memory_format=layout)
    _unshare(network, model)
    return InferenceForm(network, inference, layout)


def _is_scripted(model: nn.Module) -> bool:
    """Returns whether a part of a network is TorchScript: its graph is fixed, and its weights may be constants of it."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def _unshare(network: nn.Module, model: nn.Module) -> None:
    """Copies the weights that a copy of a network still shares with it."""
    shared = {weight.data_ptr() for weight in model.parameters()}
    for weight in network.parameters():
        if weight.data_ptr() in shared:
            weight.data = weight.data.clone()
