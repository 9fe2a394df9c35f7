"""Smaller number formats of an exported `model.onnx`: INT8 by static quantisation, and FP16.

Neither is expected to agree with the float model; whether accuracy and hardening survive is a measurement of its own.
"""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel as GraphTools
from torch import Tensor

from harness.errors import ModelError
from harness.export.files import provisional, stamp
from harness.export.runtime import OnnxModel

BATCH = 16
"""Images of one calibration batch."""


def quantise_int8(source: Path, path: Path, *, images: Iterable[Tensor], weight_bits: Literal[7, 8] = 8) -> None:
    """Writes an INT8 form of a model: 8-bit activations, weights with one scale a channel, quantise-dequantise nodes.

    The ranges of the activations are the smallest and largest values seen on the given images.

    Args:
        source: The float model, images to logits.
        path: The file to write; replaced if it exists.
        images: Training images (3, H, W), float32 in [0,1], read one after the other; a hundred or more.
        weight_bits: 7 for processors without VNNI instructions, where sums of 8-bit products may overflow.

    Raises:
        ModelError: if the source is no such model, there are no images, or the result does not run.
    """
    model = _float_model(source)
    calibration = _Calibration(model, images)
    with provisional(path) as draft, TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(source, prepared)
        quantize_static(
            prepared,
            draft,
            calibration,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        _finish(draft, model, precision="int8", probe=calibration.first)


def convert_fp16(source: Path, path: Path) -> None:
    """Writes a form of a model with 16-bit floats; images and logits stay float32.

    A runtime without 16-bit kernels, as ONNX Runtime on most CPUs, computes in float32 with the rounded weights.

    Args:
        source: The float model, images to logits.
        path: The file to write; replaced if it exists.

    Raises:
        ModelError: if the source is no such model, or the result does not run.
    """
    model = _float_model(source)
    side = model.resolution or 224
    with provisional(path) as draft:
        graph = GraphTools(convert_float_to_float16(onnx.load(source), keep_io_types=True))
        graph.topological_sort()  # the conversion puts the casts of inputs last
        onnx.save(graph.model, draft)
        _finish(draft, model, precision="float16", probe=np.full((1, 3, side, side), 0.5, np.float32))


class _Calibration:
    """Feeds images to ONNX Runtime's calibration, a batch at a time, in the form of its `CalibrationDataReader`."""

    def __init__(self, model: OnnxModel, images: Iterable[Tensor]) -> None:
        self._name = model.input_name
        self._images = iter(images)
        self._first: NDArray[np.float32] | None = self._read()
        if self._first is None:
            raise ModelError(f"{model.path}: expected training images to calibrate on, got none")
        model.logits(self._first)
        self.first = self._first[:1]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Returns the next batch by the name of the input, or None at the end."""
        batch, self._first = self._first if self._first is not None else self._read(), None
        return None if batch is None else {self._name: batch}

    def _read(self) -> NDArray[np.float32] | None:
        batch = list(islice(self._images, BATCH))
        return torch.stack(batch).cpu().numpy() if batch else None


def _float_model(source: Path) -> OnnxModel:
    model = OnnxModel(source)
    precision = "float32" if model.metadata is None else model.metadata.precision
    if model.takes_pixels or precision != "float32":
        form = "a deployment graph" if model.takes_pixels else f"{precision} weights"
        raise ModelError(f"{source}: expected a float32 model from images to logits, got {form}")
    return model


def _finish(draft: Path, model: OnnxModel, *, precision: Literal["int8", "float16"], probe: NDArray[np.float32]) -> None:
    """Marks a converted file and checks that it loads and runs."""
    if model.metadata is not None:
        stamp(draft, model.metadata.model_copy(update={"precision": precision}).to_props())
    logits = OnnxModel(draft, num_classes=model.num_classes).logits(probe)
    if not np.isfinite(logits).all():
        raise ModelError(f"{draft.name}: expected finite logits in {precision}, got NaN or infinity")
