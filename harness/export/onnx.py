"""Exports a PyTorch classifier to ONNX files; each is compared with PyTorch before it gets its name."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from harness.errors import ModelError
from harness.export.files import provisional
from harness.export.graphs import DeployGraph
from harness.export.metadata import Metadata, Preprocessed, Resize, metadata_of
from harness.export.parity import Parity, Samples, Tolerance, measure, require
from harness.export.runtime import OnnxModel
from harness.system.precision import full_float32

OPSET = 20
"""The exporter's default opset; 18 is the first with an antialiased resize."""
BATCH = 16
"""Images of one parity batch."""


def export_model(
    classifier: nn.Module,
    path: Path,
    *,
    resolution: int,
    samples: Samples,
    tolerance: Tolerance | None = None,
    opset: int = OPSET,
) -> dict[str, Parity]:
    """Writes `model.onnx`, float32 NCHW in [0,1] of any batch size to logits, and returns its comparison with PyTorch.

    The normalisation is inside the graph.

    Args:
        classifier: A `Classifier` in eval mode, on any device; it is left as it is.
        path: The file to write; replaced if it exists.
        resolution: Side length of the images in pixels.
        samples: Clean and adversarial images (N, 3, resolution, resolution) on which the file must agree with PyTorch.
        tolerance: The rule of agreement.
        opset: Version of the ONNX operators.

    Returns:
        The comparison on each of the samples.

    Raises:
        ModelError: if a module is in training mode, the network cannot be exported, or the file disagrees.
    """
    network = _frozen_copy(classifier, samples, path)
    metadata = metadata_of(cast(Preprocessed, network), kind="logits", resolution=resolution)
    example = torch.zeros(2, 3, resolution, resolution)
    with provisional(path) as draft:
        _write(network, draft, example=example, dynamic={0: Dim("batch")}, output="logits", metadata=metadata, opset=opset)
        return _compare(network, draft, samples=samples, tolerance=tolerance or Tolerance())


def export_deploy(
    classifier: nn.Module,
    path: Path,
    *,
    resolution: int,
    samples: Samples,
    resize: Resize = "squash",
    tolerance: Tolerance | None = None,
    opset: int = OPSET,
) -> dict[str, Parity]:
    """Writes `deploy.onnx`, uint8 RGB NHWC of any size to class probabilities, and returns its comparison with PyTorch.

    Args:
        classifier: A `Classifier` in eval mode, on any device; it is left as it is.
        path: The file to write; replaced if it exists.
        resolution: Side length in pixels to which the graph resizes.
        samples: Decoded images, uint8 (N, H, W, 3), of one or several sizes, on which the file must agree with
            PyTorch.
        resize: How an image that is not square becomes square: as in the data set.
        tolerance: The rule of agreement, on probabilities.
        opset: Version of the ONNX operators, 18 or newer.

    Returns:
        The comparison on each of the samples.

    Raises:
        ModelError: as `export_model`.
    """
    network = _frozen_copy(classifier, samples, path)
    metadata = metadata_of(cast(Preprocessed, network), kind="deploy", resolution=resolution, resize=resize)
    graph = DeployGraph(network, resolution=resolution, resize=resize).eval()
    # Height and width differ from each other and from the resolution: the exporter treats equal sizes as one size.
    example = torch.zeros(2, resolution + 7, resolution + 12, 3, dtype=torch.uint8)
    dynamic = dict.fromkeys((0, 1, 2), Dim.DYNAMIC)
    with provisional(path) as draft:
        _write(graph, draft, example=example, dynamic=dynamic, output="probabilities", metadata=metadata, opset=opset)
        return _compare(graph, draft, samples=samples, tolerance=tolerance or Tolerance())


def _frozen_copy(classifier: nn.Module, samples: Samples, path: Path) -> nn.Module:
    """Returns a copy of a network on the CPU, in float32, its parameters frozen.

    Raises:
        ModelError: if a module is in training mode, as its file would not compute what was measured; if there are no samples
            to compare on; or if a part of the network is TorchScript.
    """
    if not samples:
        raise ModelError(f"{path}: expected images to compare on, got none")
    training = [name or "(the whole network)" for name, module in classifier.named_modules() if module.training]
    if training:
        raise ModelError(f"{path}: expected a network in eval mode, got {len(training)} modules in training mode ({training[0]})")
    if any(isinstance(module, torch.jit.ScriptModule) for module in classifier.modules()):
        raise ModelError(f"{path.name}: expected PyTorch modules, got TorchScript, which torch.export does not take")
    return copy.deepcopy(classifier).to("cpu", torch.float32).requires_grad_(False)


def _write(
    network: nn.Module, draft: Path, *, example: Tensor, dynamic: dict[int, Any], output: str, metadata: Metadata, opset: int
) -> None:
    try:
        with torch.no_grad(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                dynamic_shapes=(dynamic,),
                input_names=["images"],
                output_names=[output],
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:  # tracing runs the network's own code, which may raise any error
        cause = str(error.__cause__ or error).strip().splitlines()
        raise ModelError(f"{draft.name}: cannot export the network: {(cause or [type(error).__name__])[0]}") from error
    if program is None:
        raise ModelError(f"{draft.name}: the exporter returned no program")
    program.model.metadata_props.clear()
    program.model.metadata_props.update(metadata.to_props())
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces of each operator, with paths of this machine
    program.save(draft, external_data=False)


def _compare(network: nn.Module, draft: Path, *, samples: Samples, tolerance: Tolerance) -> dict[str, Parity]:
    exported, found = OnnxModel(draft), {}
    for name, images in samples.items():
        batches = images.cpu().split(BATCH)
        reference = np.concatenate([_reference(network, batch) for batch in batches])
        found[name] = measure(reference, np.concatenate([exported.logits(batch) for batch in batches]), tolerance)
        require(found[name], tolerance, f"{draft.name}, {name}")
    return found


@full_float32()
@torch.inference_mode()
def _reference(network: nn.Module, batch: Tensor) -> NDArray[np.float32]:
    return network(batch).numpy()


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Suppresses the exporter's warnings inside the block; they are about its own internals."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
