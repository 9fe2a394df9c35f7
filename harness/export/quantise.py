"""Smaller number formats of an exported `model.onnx`: INT8 by static quantisation, and FP16.

Neither is expected to agree with the float model to the last flip: whether accuracy and hardening survive is a measurement
of its own. A file that does not predict what the float model predicts at all is refused.
"""

import math
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel as GraphTools

from harness.errors import ModelError
from harness.export.files import provisional, stamp
from harness.export.parity import Parity, Samples, Tolerance, measure, require
from harness.export.runtime import OnnxModel
from harness.images import ImageSplit

BATCH = 16
"""Images of one calibration batch."""

LEAST_AGREEMENT = 0.5
"""Share of predictions that INT8 keeps at least: a file that changes more than it keeps is a broken one, no coarser one."""
FP16_SHARE = 0.02
"""Rounding to 16 bits moves logits by thousandths of their size; beyond this share of the scale something is wrong."""

PERCENTILE = 99.99
"""Share of an activation's values that its range holds, chosen on training images: on 96 of them that an EfficientNet-B0
was not calibrated on, INT8 moved its logits by 0.55 (root mean square) and no prediction; with the full ranges, which the
few largest values of SiLU stretch, by 1.10 and 9 % of them."""


def quantise_int8(
    source: Path, path: Path, *, images: ImageSplit, samples: Samples, weight_bits: Literal[7, 8] = 8
) -> dict[str, Parity]:
    """Writes an INT8 form of a model: 8-bit activations, weights with one scale a channel, quantise-dequantise nodes.

    The ranges of the activations hold all but the outermost values that are seen on the given images.

    Args:
        source: The float model, images to logits.
        path: The file to write; replaced if it exists.
        images: Training images at the model's resolution, read a batch at a time; a hundred are enough.
        samples: Clean and adversarial images (N, 3, R, R) on which it must keep `LEAST_AGREEMENT` of the predictions.
        weight_bits: 7 for processors without VNNI instructions, where sums of 8-bit products may overflow.

    Returns:
        The comparison with the source on each of the samples.

    Raises:
        ModelError: if the source is no such model or has logits that are not finite, there are no images, the result does not
            run, has logits that are not finite, predicts one class for everything, or changes too many predictions.
    """
    model = _float_model(source)
    calibration = _Calibration(model, images)
    # The calibration prints its progress.
    with provisional(path) as draft, TemporaryDirectory() as scratch, redirect_stdout(StringIO()):
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
            calibrate_method=CalibrationMethod.Percentile,
            # A stride of one batch, or the activations of all images would lie in memory together.
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
        )
        return _finish(draft, model, precision="int8", samples=samples)


def convert_fp16(source: Path, path: Path, *, samples: Samples) -> dict[str, Parity]:
    """Writes a form of a model with 16-bit floats; images and logits stay float32.

    A runtime without 16-bit kernels, as ONNX Runtime on most CPUs, computes in float32 with the rounded weights.

    Args:
        source: The float model, images to logits.
        path: The file to write; replaced if it exists.
        samples: Clean and adversarial images (N, 3, R, R) on which it must agree within `FP16_SHARE` of the scale.

    Returns:
        The comparison with the source on each of the samples.

    Raises:
        ModelError: if the source is no such model, or the result does not run or disagrees.
    """
    model = _float_model(source)
    with provisional(path) as draft:
        graph = GraphTools(convert_float_to_float16(onnx.load(source), keep_io_types=True))
        graph.topological_sort()  # the conversion puts the casts of inputs last
        onnx.save(graph.model, draft)
        return _finish(draft, model, precision="float16", samples=samples)


class _Calibration:
    """Feeds images to ONNX Runtime's calibration, a range of batches at a time, as its `CalibrationDataReader` does."""

    def __init__(self, model: OnnxModel, images: ImageSplit) -> None:
        if len(images) == 0:
            raise ModelError(f"{model.path}: expected training images to calibrate on, got none")
        self._name, self._images = model.input_name, images
        if not np.isfinite(model.logits(self._read(0))).all():
            raise ModelError(f"{model.path}: expected finite logits, as 8-bit numbers have a range, got NaN or infinity")
        self._waiting = iter(range(0))

    def __len__(self) -> int:
        return math.ceil(len(self._images) / BATCH)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Chooses the batches that `get_next` returns."""
        self._waiting = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Returns the next batch by the name of the input, or None at the end of the range."""
        batch = next(self._waiting, None)
        return None if batch is None else {self._name: self._read(batch)}

    def _read(self, batch: int) -> NDArray[np.float32]:
        rows = range(batch * BATCH, min((batch + 1) * BATCH, len(self._images)))
        return torch.stack([self._images[row][0] for row in rows]).numpy()


def _float_model(source: Path) -> OnnxModel:
    model = OnnxModel(source)
    precision = "float32" if model.metadata is None else model.metadata.precision
    if model.takes_pixels or precision != "float32":
        form = "a deployment graph" if model.takes_pixels else f"{precision} weights"
        raise ModelError(f"{source}: expected a float32 model from images to logits, got {form}")
    return model


def _finish(draft: Path, model: OnnxModel, *, precision: Literal["int8", "float16"], samples: Samples) -> dict[str, Parity]:
    """Marks a converted file, and compares it with the float model."""
    if not samples:
        raise ModelError(f"{draft.name}: expected images to compare on, got none")
    if model.metadata is not None:
        stamp(draft, model.metadata.model_copy(update={"precision": precision}).to_props())
    converted, parities = OnnxModel(draft, num_classes=model.num_classes), {}
    for name, images in samples.items():
        reference, found = model.logits(images), converted.logits(images)
        where = f"{draft.name}, {name}"
        # Of logits that are all below 1 the scale is 1, which 16 bits resolve far better.
        bound = FP16_SHARE * min(1.0, float(np.abs(reference).max(initial=0)))
        tolerance = Tolerance() if precision == "int8" else Tolerance(margin=bound, quantile=bound)
        parities[name] = measure(reference, found, tolerance)
        if parities[name].nan_count or parities[name].infinite:
            raise ModelError(
                f"{where}: expected finite logits in {precision}, got NaN or infinity, which the float model has not"
            )
        if precision == "int8":
            _require_predictions(parities[name], reference, found, where)
        else:
            require(parities[name], tolerance, where)
    return parities


def _require_predictions(parity: Parity, reference: NDArray[np.float32], found: NDArray[np.float32], where: str) -> None:
    classes, kept = len(set(found.argmax(axis=1))), parity.n - parity.flips
    if classes == 1 < len(set(reference.argmax(axis=1))):
        raise ModelError(f"{where}: expected predictions as various as the float model's, got one class for all images")
    if kept < LEAST_AGREEMENT * parity.n:
        raise ModelError(
            f"{where}: expected at least {LEAST_AGREEMENT:.0%} of the float model's predictions, got {kept} of {parity.n}"
        )
