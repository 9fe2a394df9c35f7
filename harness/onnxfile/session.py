"""An ONNX file in ONNX Runtime, opened when a process first needs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.errors import ModelError
from harness.export.metadata import Metadata
from harness.export.runtime import message_of, open_session, shown_shape
from harness.onnxfile.content import expect_known_operators, structure
from harness.onnxfile.form import CHANNELS, ImageForm

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
"""Types of images that are understood."""
QUIET = {"session.intra_op.allow_spinning": "0"}
"""Idle threads of ONNX Runtime would turn in circles on the cores that PyTorch computes on between two of its passes."""


class Session:
    """A file with the session of this process on it; copies share it, and none goes along where it is pickled.

    Args:
        path: The ONNX file.
    """

    def __init__(self, path: Path) -> None:
        """See the class."""
        self.path = path
        self._opened: onnxruntime.InferenceSession | None = None
        self._owner = 0

    def __copy__(self) -> Session:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None, "_owner": 0}

    @property
    def opened(self) -> onnxruntime.InferenceSession:
        """The session of this process, with as many threads as PyTorch has.

        Raises:
            ModelError: if the file is damaged, or has an operator that ONNX Runtime does not know.
        """
        if self._opened is None or self._owner != os.getpid():  # a forked process has none of the threads
            expect_known_operators(structure(self.path), self.path)
            self._opened = open_session(self.path, threads=torch.get_num_threads(), entries=QUIET)
            self._owner = os.getpid()
        return self._opened

    @property
    def metadata(self) -> Metadata | None:
        """The harness's metadata in the file; None if another program wrote it."""
        return Metadata.from_props(self.opened.get_modelmeta().custom_metadata_map, str(self.path))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(output.name for output in self.opened.get_outputs())

    def images(self) -> ImageForm:
        """Returns the form of the images that it takes.

        Raises:
            ModelError: if it has several inputs, or one that is no batch of images.
        """
        inputs = self.opened.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(one.name for one in inputs[:5])
            raise ModelError(f"{self.path}: expected one input, got {len(inputs)}: {names}")
        shape, kind = inputs[0].shape, inputs[0].type
        extents = [extent if isinstance(extent, int) else None for extent in shape]
        if kind not in NUMBERS or len(extents) != 4 or not _has_channels(extents):
            wanted = "expected images as float or uint8, NCHW or NHWC, with 1 or 3 channels"
            raise ModelError(f"{self.path}: {wanted}, got {kind} {shown_shape(shape)}")
        last = extents[3] in CHANNELS and extents[1] not in CHANNELS
        batch, *others = extents
        height, width, channels = others if last else (*others[1:], others[0])
        return ImageForm(inputs[0].name, kind, last, batch, channels, height, width)

    def run(self, images: NDArray[np.float32], form: ImageForm) -> list[NDArray[Any]]:
        """Returns all outputs for a batch in the file's own layout.

        Raises:
            ModelError: if ONNX Runtime fails on it.
        """
        try:
            found: list[NDArray[Any]] = self.opened.run(None, {form.name: np.ascontiguousarray(images, NUMBERS[form.kind])})
        except Exception as error:  # ONNX Runtime raises a class of its own for each status
            raise ModelError(f"{self.path}: cannot run on images {images.shape}: {message_of(error)}") from error
        return found


def _has_channels(extents: Sequence[int | None]) -> bool:
    return any(extents[axis] in (None, *CHANNELS) for axis in (1, 3))
