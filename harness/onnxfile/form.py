"""The images that an ONNX file takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ModelError

CHANNELS = (1, 3)
"""Numbers of channels that are understood."""


@dataclass(frozen=True)
class ImageForm:
    """The images that a file takes."""

    name: str
    """Name of the input."""
    kind: str
    """ONNX Runtime's name of its type."""
    channels_last: bool
    batch: int | None
    """Images of a pass, where the file fixes them."""
    channels: int | None
    height: int | None
    width: int | None

    @property
    def is_whole(self) -> bool:
        """Whether pixels are whole numbers from 0 to 255."""
        return self.kind == "tensor(uint8)"

    @property
    def resolution(self) -> int | None:
        """Side length in pixels, where the file fixes it."""
        return self.height if self.height == self.width else None

    def check(self, shape: Sequence[int], path: Path) -> None:
        """Refuses images of another shape (N, C, H, W).

        Raises:
            ModelError: if they do not fit.
        """
        _, channels, height, width = shape
        if self.channels not in (None, channels):
            raise ModelError(f"{path}: expected images of {self.channels} channel{'s' * (self.channels != 1)}, got {channels}")
        if self.height not in (None, height) or self.width not in (None, width):
            side = "" if self.resolution is None else f"; `dataset.resolution: {self.resolution}` gives it such"
            wanted = " x ".join("any" if it is None else str(it) for it in (self.height, self.width))
            raise ModelError(f"{path}: expected images of {wanted} pixels, got {height} x {width}{side}")
