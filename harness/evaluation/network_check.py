"""What is expected of a network from a caller's hands, found out with two forward passes before anything is computed."""

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from harness.errors import DataError, ModelError, first_line
from harness.evaluation.batches import load
from harness.images import ImageSplit
from harness.system.messages import counted
from harness.system.modes import evaluating

TRIED = 2
"""Images of the forward pass: a network that drops the batch axis does so at one."""


def check_network(model: nn.Module, split: ImageSplit, device: torch.device | str) -> int:
    """Checks that a network takes the images of a split and has a logit for each of its labels.

    Args:
        model: Expected to map float32 images (N, C, H, W) to floating-point logits (N, K), K at least 2; given back as
            it was.
        split: The examples; their labels are expected in 0..K-1.
        device: Where the network lies.

    Returns:
        The number of logits K.

    Raises:
        ModelError: if it fails on the first images or on one alone, returns something else, or has weights without values.
        DataError: if a label has no logit.
    """
    _check_weights(model)
    x = load(split, range(min(TRIED, len(split))), device).x
    classes, alone = (_count_logits(model, images) for images in (x, x[:1]))
    if classes != alone:
        raise ModelError(f"model: expected as many logits for one image as for several, got {alone} and {classes}")
    highest = int(split.labels.max())
    if highest >= classes:
        hint = "; are they counted from 1?" if split.labels.min() > 0 else ""
        raise DataError(
            f"data: expected labels from 0 to {classes - 1}, as the model gives {classes} logits, got {highest}{hint}"
        )
    return classes


def _check_weights(model: nn.Module) -> None:
    weights = [*model.parameters(), *model.buffers()]
    if any(is_lazy(weight) for weight in weights):
        raise ModelError("model: expected weights with values, got lazy ones without; pass a batch through it first")
    if any(weight.is_meta for weight in weights):
        raise ModelError("model: expected weights with values, got some on the meta device, which holds none")


def _count_logits(model: nn.Module, x: Tensor) -> int:
    """Returns how many logits a network gives for each of the images (n, C, H, W)."""
    logits = _passed(model, x)
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"model: expected logits as one tensor, got {type(logits).__name__}; wrap it in a module that returns them"
        )
    if logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2 or not logits.is_floating_point():
        wanted = f"floating-point logits of shape ({len(x)}, number of classes) for {counted(len(x), 'image')}"
        raise ModelError(f"model: expected {wanted}, got {logits.dtype} of shape {tuple(logits.shape)}")
    if logits.device != x.device:
        raise ModelError(f"model: expected logits on {x.device}, where its weights and the images lie, got {logits.device}")
    return logits.shape[1]


def _passed(model: nn.Module, x: Tensor) -> object:
    try:
        with evaluating(model), torch.no_grad():
            return model(x.clone())  # it may write into them
    except Exception as error:  # a network may fail on an image in any way
        what = f"a forward pass of {counted(len(x), 'float32 image')} of {' x '.join(map(str, x.shape[1:]))}"
        others = sorted({str(weight.dtype) for weight in model.parameters() if weight.dtype != torch.float32})
        hint = f"; its parameters are {', '.join(others)}: model.float() converts them" if others else ""
        raise ModelError(f"model: {what} failed: {first_line(error)}{hint}") from error
