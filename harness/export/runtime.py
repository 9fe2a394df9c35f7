"""An ONNX file, of the harness or of a user without the PyTorch model, run by ONNX Runtime."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import ModelError
from harness.export.deadline import Deadline
from harness.export.metadata import Metadata

CPU = "CPUExecutionProvider"
IMAGE_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
"""Types of the input: float NCHW in [0,1], or the uint8 NHWC of a deployment graph."""


class OnnxModel:
    """A session on one file; its single input is a batch of images, its first float output (N, K) the logits.

    An extent that the file does not declare fits any number; an output without a declared shape is used if no other fits.

    Args:
        path: The ONNX file.
        threads: Threads inside an operator, or None for the runtime's choice.
        provider: ONNX Runtime's name of the execution provider.
        num_classes: The number of classes that the file must have, or None for any.
        class_names: The class names that the file must have, in this order, if it has class names; or None for any.
        timeout: Seconds that all passes together may take, counted from here, or None for any time.

    Raises:
        ModelError: if the file is missing or damaged, the provider is not in this build, the input or the outputs have
            another type or shape, or the class count or the names differ.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        provider: str = CPU,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """See the class."""
        self.path = path
        self._deadline = Deadline(timeout)
        self._session = open_session(self.path, threads=threads, provider=provider)
        self._input = self._image_input()
        props = self._session.get_modelmeta().custom_metadata_map
        self.metadata = Metadata.from_props(props, str(path))
        """The harness's metadata in the file; None if another program wrote it."""
        self.model_sha256: str | None = props.get("model_sha256")
        """Hash of the weights it was made from, which a foreign file may give too; None where it does not say."""
        self._output, self.num_classes = self._logits_output(len(class_names) if class_names is not None else num_classes)
        """The number of classes K."""
        if class_names is not None:
            _check_names(props, class_names, path)

    @property
    def takes_pixels(self) -> bool:
        """Whether the input is uint8 NHWC of any size, as in a deployment graph, instead of float NCHW."""
        return self._input.type == "tensor(uint8)"

    @property
    def resolution(self) -> int | None:
        """Side length of the images in pixels, or None if the file takes any."""
        side = self._input.shape[2]
        return side if isinstance(side, int) and not self.takes_pixels else None

    @property
    def input_name(self) -> str:
        """Name of the input in the graph."""
        return str(self._input.name)

    def logits(self, x: Tensor | NDArray[np.generic]) -> NDArray[np.float32]:
        """Returns the outputs (N, K) for a batch: logits, or probabilities of a deployment graph.

        Args:
            x: float32 (N, 3, H, W) in [0,1]; for a deployment graph uint8 (N, H, W, 3).

        Raises:
            ModelError: if type or shape do not fit the file, or it takes longer than it may.
        """
        batch = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
        expected = IMAGE_TYPES[self._input.type]
        fits = batch.ndim == 4 and all(
            not isinstance(want, int) or want == got for want, got in zip(self._input.shape[1:], batch.shape[1:], strict=False)
        )
        if batch.dtype != expected or not fits:
            wanted = f"{np.dtype(expected)} {shown_shape(self._input.shape)}"
            raise ModelError(f"{self.path}: expected images of {wanted}, got {batch.dtype} {batch.shape}")
        size = self._input.shape[0] if isinstance(self._input.shape[0], int) else max(len(batch), 1)
        outputs = [self._run(batch[start : start + size], size) for start in range(0, len(batch), size)]
        return np.concatenate(outputs) if outputs else np.empty((0, self.num_classes), np.float32)

    def _run(self, batch: NDArray[np.generic], size: int) -> NDArray[np.float32]:
        """Returns the logits of one batch; for a file of fixed batch size, copies of the last image fill up a smaller batch."""
        filled = batch if len(batch) == size else np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        try:
            with self._deadline.options() as options:
                images = {self._input.name: np.ascontiguousarray(filled)}
                output: NDArray[np.float32] = self._session.run([self._output], images, options)[0]
        except Exception as error:  # ONNX Runtime raises a class of its own for each status
            if self._deadline.passed:
                raise ModelError(f"{self.path}: expected an end within {self._deadline.seconds:g} s, got none") from error
            raise ModelError(f"{self.path}: cannot run on images {filled.shape}: {message_of(error)}") from error
        if output.shape != (size, self.num_classes):
            raise ModelError(f"{self.path}: expected logits of shape {(size, self.num_classes)}, got {output.shape}")
        return output[: len(batch)].astype(np.float32, copy=False)

    def _image_input(self) -> onnxruntime.NodeArg:
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"{self.path}: expected one input, got {len(inputs)}")
        image = inputs[0]
        channel = {"tensor(float)": 1, "tensor(uint8)": 3}.get(image.type)
        if channel is None or len(image.shape) != 4 or not _open_or(image.shape[channel], 3):
            raise ModelError(
                f"{self.path}: expected the input float NCHW or uint8 NHWC with 3 channels, "
                f"got {image.type} {shown_shape(image.shape)}"
            )
        return image

    def _logits_output(self, wanted: int | None) -> tuple[str, int]:
        """Returns the name of the output with the logits, and the number of classes."""
        outputs = self._session.get_outputs()
        floats = [output for output in outputs if output.type == "tensor(float)" and len(output.shape) in {0, 2}]
        if not floats:
            shown = ", ".join(f"{output.type} {shown_shape(output.shape)}" for output in outputs)
            raise ModelError(f"{self.path}: expected an output float (N, K), got {shown}")
        fitting = [output for output in floats if output.shape and (wanted is None or _open_or(output.shape[1], wanted))]
        chosen = (fitting or [output for output in floats if not output.shape] or floats)[0]
        declared = chosen.shape[1] if chosen.shape else None
        classes = declared if isinstance(declared, int) else wanted
        if classes is None:
            raise ModelError(f"{self.path}: expected a fixed number of classes in the output, got {shown_shape(chosen.shape)}")
        if wanted is not None and classes != wanted:
            raise ModelError(f"{self.path}: expected {wanted} classes, got {classes}")
        if self.metadata is not None and len(self.metadata.class_names) != classes:
            raise ModelError(
                f"{self.path}: expected {len(self.metadata.class_names)} classes by its names, got {classes} outputs"
            )
        return str(chosen.name), classes


def _check_names(props: Mapping[str, str], expected: Sequence[str], path: Path) -> None:
    """Checks that the class names in a file's metadata, if it has any, are those of the images."""
    if (text := props.get("class_names")) is None:
        return
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or thousands of brackets
        found = None
    where = f"{path}: metadata class_names"
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ModelError(f"{where}: expected a JSON list of texts, got {text[:60]}")
    if len(found) != len(expected):
        raise ModelError(f"{where}: expected {len(expected)} names, got {len(found)}")
    for number, (wanted, name) in enumerate(zip(expected, found, strict=True)):
        if name != wanted:
            raise ModelError(f"{where}: expected {wanted} as class {number}, got {name}")


def _open_or(extent: int | str | None, wanted: int) -> bool:
    return not isinstance(extent, int) or extent == wanted


def open_session(
    path: Path, *, threads: int | None = None, provider: str = CPU, entries: Mapping[str, str] | None = None
) -> onnxruntime.InferenceSession:
    """Returns a session on an ONNX file.

    Args:
        path: The file.
        threads: Threads inside an operator, or None for the runtime's choice.
        provider: ONNX Runtime's name of the execution provider.
        entries: Further settings of the session, by ONNX Runtime's names.

    Raises:
        ModelError: if the file is missing or damaged, or the provider is not in this build.
    """
    if not path.is_file():
        raise ModelError(f"{path}: expected an ONNX file, found none")
    if provider not in (available := onnxruntime.get_available_providers()):
        raise ModelError(f"{path}: expected a provider of {', '.join(available)}, got {provider!r}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only, which are raised as exceptions; warnings are about shapes of constants
    for name, value in (entries or {}).items():
        options.add_session_config_entry(name, value)
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(path, options, providers=[provider])
    except Exception as error:  # ONNX Runtime raises a class of its own for each status
        raise ModelError(f"{path}: expected a readable ONNX model, got: {message_of(error)}") from error


def message_of(error: Exception) -> str:
    """Returns the first line of an error of ONNX Runtime."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def shown_shape(shape: Sequence[int | str | None]) -> str:
    """Returns a declared shape in words; an extent without a number is "any"."""
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"
