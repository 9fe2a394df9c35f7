"""The range of pixels that an 8-bit file distinguishes: what it must be, and what it is in a file.

Static quantisation takes ranges from clean images. Where these are never black or white, the file clips pixels that an attack
moves beyond them, and the float model does not: an attack on the float model loses strength by that alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from harness.export.pixel_path import PixelPath

MOST = 255
"""The largest 8-bit whole number without a sign."""
LIMITS = {f"tensor({name})": (np.iinfo(name).min, np.iinfo(name).max) for name in ("uint8", "int8", "uint16", "int16")}
"""ONNX Runtime's name of a type of whole numbers -> the least and the largest."""


def box_ranges(path: Path, *, shape: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Returns the least and the largest value that images in [0,1] take in each tensor before the network, by its name.

    No operator on the way turns as a pixel rises, so that both ends of each value give both ends of what is made from it.

    Args:
        path: A float model from images (N, C, H, W) in [0,1] to logits.
        shape: Of an image, (C, H, W).

    Raises:
        ModelError: if the operators before the network cannot be run by themselves.
    """
    pixels = PixelPath(path)
    batch = pixels.images.type.tensor_type.shape.dim[0].dim_value or 1
    ends = [{pixels.images.name: np.full((batch, *shape), level, np.float32)} for level in (0, 1)]
    for step in pixels.steps:
        taken = [{name: end[name] for name in (pixels.images.name, *step.pixels)} for end in ends]
        session = pixels.session(step.tensors, taken[0])
        for name, *found in zip(step.tensors, *(session.run(None, feed) for feed in taken), strict=True):
            ends[0][name], ends[1][name] = np.minimum(*found), np.maximum(*found)
    return {name: (float(low.min()), float(ends[1][name].max())) for name, low in ends[0].items()}


def quantisation_of(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Returns scale and zero point of the 8-bit numbers that hold `low`, `high` and 0, in steps as small as that allows.

    Raises:
        ValueError: if the range holds nothing but 0, or is not finite.
    """
    below, above = max(-low, 0.0), max(high, 0.0)
    if not 0 < below + above < math.inf:
        raise ValueError(f"expected a range of finite numbers that holds more than 0, got {low:g} to {high:g}")
    place = MOST * below / (below + above)
    least, most = 1 if below else 0, MOST - 1 if above else MOST
    scales = {
        zero: max(below / zero if below else 0.0, above / (MOST - zero) if above else 0.0)
        for zero in {min(max(whole, least), most) for whole in (math.floor(place), math.ceil(place))}
    }
    zero = min(scales, key=scales.__getitem__)
    scale = np.float32(scales[zero])
    while np.float32(zero) * scale < below or np.float32(MOST - zero) * scale < above:  # rounded down to float32
        scale = np.nextafter(scale, np.float32(math.inf))
    return scale, np.uint8(zero)


class InputRange:
    """The ranges of the QuantizeLinear nodes of an ONNX file that take pixels.

    A value is clipped if round(value / scale) + zero point lies beyond the limits of the node's type. Nodes with a scale for each
    block of numbers, or a type of another kind than whole numbers of 8 or 16 bits, are left out.

    Args:
        path: The ONNX file.

    Raises:
        ModelError: if the operators before the network cannot be run by themselves.
    """

    def __init__(self, path: Path) -> None:
        """See the class."""
        pixels = PixelPath(path)
        nodes = pixels.quantisers
        names = [name for node in nodes for name in (*node.input, *node.output) if name]
        self._session = pixels.session(names) if nodes else None
        types = {} if self._session is None else {it.name: it.type for it in self._session.get_outputs()}
        places = {name: f"{name}/{place}" for place, name in enumerate(names)}
        self._quantisers = [
            _Quantiser(LIMITS[types[places[node.output[0]]]], _axis(node), tuple(places[name] for name in node.input if name))
            for node in nodes
            if types[places[node.output[0]]] in LIMITS and not _attribute(node, "block_size", 0)
        ]

    @property
    def is_known(self) -> bool:
        """Whether the file keeps its pixels in such whole numbers; a float file does not."""
        return bool(self._quantisers)

    def clipped_share(self, batches: Iterable[NDArray[np.generic]]) -> float:
        """Returns the share of the values of some images that the file clips; NaN for a file without a known range.

        Where pixels are quantised in several places, it is the share of the place that clips most.

        Args:
            batches: Images as the file takes them.
        """
        counts = np.zeros((len(self._quantisers), 2))
        if self._session is not None and self._quantisers:
            for images in batches:
                counts += self._counts(self._session, images)
        shares = [float(clipped / n) for clipped, n in counts if n]
        return max(shares, default=math.nan)

    def _counts(self, session: onnxruntime.InferenceSession, images: NDArray[np.generic]) -> NDArray[np.float64]:
        """Returns for each place how many values are clipped, and of how many; (places, 2)."""
        taken = session.get_inputs()[0]
        size = taken.shape[0] if isinstance(taken.shape[0], int) else max(len(images), 1)
        counts = np.zeros((len(self._quantisers), 2))
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            filled = batch if len(batch) == size else np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            for place, quantiser in enumerate(self._quantisers):
                values, *numbers = session.run(list(quantiser.names), {taken.name: np.ascontiguousarray(filled)})
                clipped = quantiser.clips(values, *numbers)[: len(batch)]
                counts[place] += clipped.sum(), clipped.size
        return counts


@dataclass(frozen=True)
class _Quantiser:
    limits: tuple[int, int]
    axis: int
    """Of the channels, where each has a scale of its own."""
    names: tuple[str, ...]
    """Of the session's outputs: values, scale and, where it is not 0, zero point."""

    def clips(
        self, values: NDArray[np.float32], scale: NDArray[np.float32], zero: NDArray[np.integer[Any]] | None = None
    ) -> NDArray[np.bool_]:
        """Returns for each value whether its whole number lies beyond the limits."""
        extents = [1] * values.ndim
        if scale.size > 1:
            extents[self.axis] = -1
        numbers = np.rint(values / scale.reshape(extents))
        if zero is not None:
            numbers = numbers + zero.astype(np.float32).reshape(extents)
        return np.asarray((numbers < self.limits[0]) | (numbers > self.limits[1]))


def _axis(node: onnx.NodeProto) -> int:
    return _attribute(node, "axis", 1)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)
