"""Builds a finished network: its own weights, none of them new, its adapter around it, and the data's classes as its logits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.errors import ModelError, first_line, naming
from harness.models.adapted import Adapted, chosen, described, hint, luminance
from harness.models.adapter import SIGMOID, Adapter
from harness.models.base import Architecture
from harness.models.classifier import Classifier
from harness.models.fitting import classes_of_head, load_into
from harness.models.origin import has_other_classes
from harness.system.seeds import global_seed

logger = logging.getLogger(__name__)


def finished_classifier(
    architecture: Architecture, adapter: Adapter, class_names: Sequence[str], *, resolution: int
) -> Classifier:
    """Returns a finished network, built on the CPU, in eval mode; one forward pass checks what it gives.

    Args:
        architecture: The network, with its weights.
        adapter: What stands around it.
        class_names: The classes of the data, in the order of their indices; the result has a logit for each.
        resolution: Side length of its images in pixels.

    Raises:
        ModelError: if the weights are of another architecture or of other classes, or damaged, if the network fails on an
            image, or does not give one logit a class.
    """
    names = adapter.names(class_names)
    if getattr(architecture, "pretrained", False):
        _expect_own_head(architecture, len(names))
    with global_seed(0):
        network = _built(architecture, adapter, len(names))
    state = architecture.state()
    if state:
        _load(architecture, network, state, names)
    mean, std = adapter.input.normalisation(architecture.normalisation(network, state))
    classifier = Classifier(_adapted(network, adapter, names, class_names), mean=mean, std=std, class_names=class_names).eval()
    _check_output(classifier, network, architecture.arch, adapter, classes=len(names), resolution=resolution)
    return classifier


def _built(architecture: Architecture, adapter: Adapter, classes: int) -> nn.Module:
    """Returns the network with a head for so many classes; one of timm's takes the adapter's channels."""
    outputs = 1 if adapter.output == SIGMOID else classes
    if adapter.input.channels == 1 and architecture.name == "timm":
        arguments = {**getattr(architecture, "arguments", {}), "in_chans": 1}
        architecture = architecture.model_copy(update={"arguments": arguments})
    return architecture.backbone(outputs).cpu()


def _load(architecture: Architecture, network: nn.Module, state: Mapping[str, Tensor], names: Sequence[str]) -> None:
    with naming(f"{architecture.arch}: the weights in {architecture.weights} do not fit: ", ModelError):
        arguments = getattr(architecture, "arguments", {})
        if has_other_classes(Path(str(architecture.weights)), arch=architecture.arch, arguments=arguments, class_names=names):
            raise ModelError(f"expected weights for the classes {', '.join(names[:5])}{' ...' * (len(names) > 5)}")
        needed = classes_of_head(network, network.state_dict())
        found = classes_of_head(network, state)
        if None not in (needed, found) and found != needed:
            raise ModelError(
                f"expected a head of {needed} logits, got one of {found}; `classes:` names the classes of the network in the "
                "order of its logits"
            )
        load_into(network, state, allow_new_head=False)


def _expect_own_head(architecture: Architecture, classes: int) -> None:
    """Refuses pretrained weights whose head is left out, as timm does for another number of classes."""
    trained = architecture.pretrained_classes()
    if trained not in (None, classes):
        raise ModelError(
            f"{architecture.arch}: expected pretrained weights of {classes} classes, got {trained}, so its head would be new; "
            "`classes:` names the classes of the network"
        )


def _adapted(network: nn.Module, adapter: Adapter, names: Sequence[str], class_names: Sequence[str]) -> nn.Module:
    """Returns the network itself where its adapter changes nothing."""
    columns = None if tuple(names) == tuple(class_names) else [names.index(name) for name in class_names]
    if len(names) > len(class_names):
        logger.warning("the network knows %d classes, the data %d: only the logits of these count", len(names), len(class_names))
    if columns is None and adapter.output is None and adapter.input.channels == 3:
        return network
    return Adapted(network, output=adapter.output, channels=adapter.input.channels, columns=columns)


def _check_output(
    classifier: Classifier, network: nn.Module, arch: str, adapter: Adapter, *, classes: int, resolution: int
) -> None:
    """Raises a ModelError, with the adapter that would help, unless two images give finite logits of the right shape."""
    try:
        with torch.no_grad():
            x = (torch.full((2, 3, resolution, resolution), 0.5) - classifier.mean) / classifier.std
            raw: object = network(luminance(x) if adapter.input.channels == 1 else x)
    except Exception as error:  # a network may fail on an image in any way
        where = f"{arch}: a forward pass of two images of {resolution} x {resolution} failed: {first_line(error)}"
        grey = "; `input: {channels: 1}` gives it grey images" if "channel" in str(error) and adapter.input.channels == 3 else ""
        raise ModelError(where + grey) from error
    if adapter.output is None and not isinstance(raw, Tensor):
        raise _other_form(raw, arch, classes)
    with naming(f"{arch}: ", ModelError):
        logits = chosen(raw, adapter.output)
    if logits.shape != (2, classes) or not logits.is_floating_point():
        raise _other_form(logits, arch, classes)
    if not logits.isfinite().all():
        raise ModelError(f"{arch}: expected finite logits for two grey images, got others; its weights are damaged")


def _other_form(found: object, arch: str, classes: int) -> ModelError:
    expected = f"logits of shape {(2, classes)} for two images"
    return ModelError(f"{arch}: expected {expected}, got {described(found)}{hint(found, expected=classes)}")
