"""Smaller number formats of an exported `model.onnx`: INT8 by static quantisation, and FP16.

Both may change predictions of the float model; how much accuracy and robust accuracy they keep has to be measured. A file
with few of the float model's predictions is refused.
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
from harness.export.input_range import box_ranges, quantisation_of
from harness.export.parity import Parity, Samples, Tolerance, measure, require
from harness.export.pixel_path import PixelPath
from harness.export.runtime import OnnxModel
from harness.images import ImageSplit

BATCH = 16
"""Images of one calibration batch."""

LEAST_AGREEMENT = 0.5
"""Smallest share of predictions that INT8 keeps: a file that changes more predictions than it keeps is damaged."""
FP16_SHARE = 0.02
"""Largest allowed change of logits in FP16, relative to the scale; rounding changes them by thousandths."""

PERCENTILE = 99.99
"""Percentage of an activation's values inside its range. Full ranges are wider by the few largest values of SiLU, and coarser:
docs/performance.md has a comparison."""


def quantise_int8(
    source: Path, path: Path, *, images: ImageSplit, samples: Samples, weight_bits: Literal[7, 8] = 8
) -> dict[str, Parity]:
    """Writes an INT8 copy of a model, and returns its comparison with the float model.

    Activations have 8 bits, weights one scale a channel; the file has quantise-dequantise nodes. The ranges of the activations
    hold all but the outermost values on the given images; those of the pixels hold black and white too (`input_range`).

    Args:
        source: The float model, images to logits.
        path: The file to write; replaced if it exists.
        images: Training images at the model's resolution, read one batch at a time; a hundred are enough.
        samples: Clean and adversarial images (N, 3, R, R) on which it must keep the share `LEAST_AGREEMENT` of the
            predictions.
        weight_bits: 7 for processors without VNNI instructions, where sums of 8-bit products may overflow.

    Returns:
        The comparison with the source on each of the samples.

    Raises:
        ModelError: if the source is not a float model or has logits that are not finite, there are no images, or the result does
            not run, has logits that are not finite, predicts one class for all images, or changes too many predictions.
    """
    model = _float_model(source)
    calibration = _Calibration(model, images)
    # stdout is redirected, as the calibration prints its progress.
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
            # Operators before the network compute in float: pixels are rounded once, on their way into the first layer.
            nodes_to_exclude=[step.name for step in PixelPath(prepared).steps if step.name],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "CalibPercentile": PERCENTILE,
                # A stride of one batch: else the activations of all images are in memory at once.
                "CalibStridedMinMax": 1,
                "TensorQuantOverrides": _pinned(prepared, calibration.shape),
            },
        )
        return _finish(draft, model, precision="int8", samples=samples)


def convert_fp16(source: Path, path: Path, *, samples: Samples) -> dict[str, Parity]:
    """Writes a copy of a model with 16-bit floats, and returns its comparison with the float model.

    Images and logits stay float32. A runtime without 16-bit kernels, such as ONNX Runtime on most CPUs, computes in float32
    with the rounded weights.

    Args:
        source: The float model, images to logits.
        path: The file to write; replaced if it exists.
        samples: Clean and adversarial images (N, 3, R, R) on which it must agree within `FP16_SHARE` of the scale.

    Returns:
        The comparison with the source on each of the samples.

    Raises:
        ModelError: if the source is not a float model, or the result does not run or disagrees.
    """
    model = _float_model(source)
    with provisional(path) as draft:
        graph = GraphTools(convert_float_to_float16(onnx.load(source), keep_io_types=True))
        graph.topological_sort()  # the conversion appends the casts of inputs
        onnx.save(graph.model, draft)
        return _finish(draft, model, precision="float16", samples=samples)


class _Calibration:
    """Images for ONNX Runtime's calibration, one range of batches at a time, with the methods of its `CalibrationDataReader`."""

    def __init__(self, model: OnnxModel, images: ImageSplit) -> None:
        if len(images) == 0:
            raise ModelError(f"{model.path}: expected training images to calibrate on, got none")
        self._name, self._images = model.input_name, images
        if not np.isfinite(model.logits(self._read(0))).all():
            raise ModelError(f"{model.path}: expected finite logits, as 8-bit numbers have a range, got NaN or infinity")
        self._waiting = iter(range(0))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image, (3, R, R)."""
        return tuple(self._images[0][0].shape)

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


def _pinned(prepared: Path, shape: tuple[int, ...]) -> dict[str, list[dict[str, NDArray[np.generic]]]]:
    """Returns ONNX Runtime's overrides: the tensors before the network hold all that images in [0,1] become, black to white."""
    inferred = prepared.with_name("inferred.onnx")
    onnx.shape_inference.infer_shapes_path(prepared, inferred)
    graph = onnx.load(inferred, load_external_data=False).graph
    typed = {value.name for value in (*graph.input, *graph.value_info, *graph.output)}  # it refuses others
    pinned: dict[str, list[dict[str, NDArray[np.generic]]]] = {}
    for name, (low, high) in box_ranges(prepared, shape=shape).items():
        if name in typed and low < high:
            scale, zero_point = quantisation_of(low, high)
            pinned[name] = [{"scale": np.asarray(scale), "zero_point": np.asarray(zero_point)}]
    return pinned


def _float_model(source: Path) -> OnnxModel:
    model = OnnxModel(source)
    precision = "float32" if model.metadata is None else model.metadata.precision
    if model.takes_pixels or precision != "float32":
        form = "a deployment graph" if model.takes_pixels else f"{precision} weights"
        raise ModelError(f"{source}: expected a float32 model from images to logits, got {form}")
    return model


def _finish(draft: Path, model: OnnxModel, *, precision: Literal["int8", "float16"], samples: Samples) -> dict[str, Parity]:
    """Writes the metadata of a converted file, and returns its comparison with the float model."""
    if not samples:
        raise ModelError(f"{draft.name}: expected images to compare on, got none")
    if model.metadata is not None:
        stamp(draft, model.metadata.model_copy(update={"precision": precision}).to_props())
    converted, parities = OnnxModel(draft, num_classes=model.num_classes), {}
    for name, images in samples.items():
        reference, found = model.logits(images), converted.logits(images)
        where = f"{draft.name}, {name}"
        # If all logits are below 1, the scale is 1, and the error of 16 bits is far below that.
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
