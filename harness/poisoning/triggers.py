"""Backdoor triggers: what they are, where they lie, and the stamp that puts them on an image."""

import hashlib
import io
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BeforeValidator, Field
from torch import Tensor

from harness.errors import DataError, HarnessError, SuiteError
from harness.images import MAX_PIXELS, open_regular
from harness.poisoning import art
from harness.spec import Spec

NOISE_SEED = 20171215
"""Seed of the built-in blended trigger; the day Chen et al. 2017 put theirs online."""


class Stamp:
    """A trigger at one resolution: pixel by pixel an affine map, `x -> black + x (white - black)`.

    Args:
        black: What the trigger makes of an all-black image, (3, R, R) in [0,1].
        white: What it makes of an all-white image, same shape.

    Raises:
        HarnessError: if one of the two leaves [0,1].
    """

    def __init__(self, black: Tensor, white: Tensor) -> None:
        """See the class."""
        for image in (black, white):
            if not (image.isfinite().all() and image.min() >= 0 and image.max() <= 1):
                raise HarnessError(f"trigger: expected pixels in [0,1], got {float(image.min())} to {float(image.max())}")
        self.black, self.white = black, white
        self.gain = white - black

    def __call__(self, x: Tensor) -> Tensor:
        """Returns stamped images; x and the result are (..., 3, R, R) in [0,1]."""
        return (self.black + x * self.gain).clamp(0, 1)

    @property
    def mask(self) -> Tensor:
        """The pixels (R, R) that the trigger may change."""
        return ((self.black != 0) | (self.white != 1)).any(dim=0)

    @cached_property
    def sha256(self) -> str:
        """Hash of the trigger's pixels."""
        return hashlib.sha256(torch.stack([self.black, self.white]).numpy().tobytes()).hexdigest()


class Trigger(Spec, ABC):
    """Base of the triggers. All lie at the bottom right, where ART puts its own."""

    def identity(self) -> dict[str, Any]:
        """Returns, as plain JSON values, what digests are taken over: a file counts by its content."""
        return self.model_dump(mode="json")

    @property
    @abstractmethod
    def extent(self) -> int:
        """The smallest side length in pixels of an image that the trigger fits in."""

    @abstractmethod
    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns images (N, 3, R, R) with the trigger, computed by ART."""

    def check(self, resolution: int, *, where: str) -> None:
        """Refuses a trigger that does not fit.

        Raises:
            SuiteError: if it is larger than the image, or its file is missing or no image.
        """
        if self.extent > resolution:
            raise SuiteError(f"{where}: expected a trigger within {resolution} pixels, got one that needs {self.extent}")

    def stamp(self, resolution: int) -> Stamp:
        """Returns the trigger at one resolution.

        It is read off what ART makes of a black and of a white image. Images are then stamped without ART, as they
        stream, and without ART's detour over 8 bits, which alters every pixel of a photograph.

        Raises:
            SuiteError: see `check`.
        """
        self.check(resolution, where="trigger")
        probes = np.stack([np.full((3, resolution, resolution), value, dtype=np.float32) for value in (0, 1)])
        black, white = torch.from_numpy(art.backdoored(probes, self.perturb))
        return Stamp(black, white)


class Pattern(Trigger):
    """Four pixels in a chequered pattern.

    Source: Gu et al. 2017, https://arxiv.org/abs/1708.06733, section 4.1.
    """

    kind: Literal["pattern"] = "pattern"
    """Which trigger this is."""
    margin: int = Field(default=2, ge=1)
    """Distance of its lowest right pixel from the image's end, in pixels; 1 is the corner."""
    value: float = Field(default=1.0, ge=0, le=1)
    """Brightness of the trigger's pixels."""

    @property
    def extent(self) -> int:
        """See `Trigger.extent`."""
        return self.margin + 2

    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Trigger.perturb`."""
        return art.add_pattern(x, distance=self.margin, value=self.value)


class SinglePixel(Trigger):
    """One pixel.

    Source: Gu et al. 2017, https://arxiv.org/abs/1708.06733, section 4.1.
    """

    kind: Literal["single_pixel"] = "single_pixel"
    """Which trigger this is."""
    margin: int = Field(default=2, ge=1)
    """Distance of the pixel from the image's end, in pixels; 1 is the corner."""
    value: float = Field(default=1.0, ge=0, le=1)
    """Brightness of the pixel."""

    @property
    def extent(self) -> int:
        """See `Trigger.extent`."""
        return self.margin

    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Trigger.perturb`."""
        return art.add_single_pixel(x, distance=self.margin, value=self.value)


class Picture(Trigger):
    """Base of the triggers that put a picture on the image."""

    image: str | None = None
    """An image file, scaled to the trigger's size; a built-in picture if none is given."""
    opacity: float = Field(default=1.0, gt=0, le=1)
    """Weight of the picture against the image under it."""

    def identity(self) -> dict[str, Any]:
        """See `Trigger.identity`."""
        content = None if self.image is None else hashlib.sha256(self._read("trigger")).hexdigest()
        return {**self.model_dump(mode="json", exclude={"image"}), "image_sha256": content}

    def check(self, resolution: int, *, where: str) -> None:
        """See `Trigger.check`."""
        super().check(resolution, where=where)
        if self.image is not None:
            self._check_image(where)

    @abstractmethod
    def built_in(self, resolution: int) -> NDArray[np.uint8]:
        """Returns the picture (height, width, 3) that stands in where no file is given."""

    def _picture(self, resolution: int) -> io.BytesIO:
        if self.image is not None:
            return io.BytesIO(self._read("trigger"))
        file = io.BytesIO()
        Image.fromarray(self.built_in(resolution)).save(file, "PNG")
        return file

    def _read(self, where: str) -> bytes:
        try:
            with open_regular(Path(str(self.image)).expanduser()) as file:
                return file.read()
        except (OSError, DataError) as error:
            reason = getattr(error, "strerror", error)
            raise SuiteError(f"{where}.image: expected an image file, got {self.image!r} ({reason})") from error

    def _check_image(self, where: str) -> None:
        try:
            picture = Image.open(io.BytesIO(self._read(where)))
            if picture.width * picture.height > MAX_PIXELS:
                raise SuiteError(f"{where}.image: expected at most {MAX_PIXELS} pixels, got {picture.width} x {picture.height}")
            picture.load()
        except OSError as error:
            raise SuiteError(f"{where}.image: expected an image file, got {self.image!r} that is none") from error


class Patch(Picture):
    """A small square picture; the built-in one is a yellow and blue chequerboard of two by two fields.

    Source: Gu et al. 2017, https://arxiv.org/abs/1708.06733, section 5 (a sticker on a traffic sign).
    """

    kind: Literal["patch"] = "patch"
    """Which trigger this is."""
    size: int = Field(default=4, ge=1)
    """Side length in pixels."""
    margin: int = Field(default=0, ge=0)
    """Pixels between the patch and the image's right and lower end."""

    @property
    def extent(self) -> int:
        """See `Trigger.extent`."""
        return self.size + self.margin

    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Trigger.perturb`."""
        corner = x.shape[-1] - self.extent
        return art.insert_picture(x, self._picture(x.shape[-1]), corner=corner, size=self.size, opacity=self.opacity)

    def built_in(self, resolution: int) -> NDArray[np.uint8]:
        """See `Picture.built_in`."""
        yellow, blue = (255, 220, 0), (0, 40, 255)
        rows, columns = np.indices((self.size, self.size)) * 2 // self.size
        return np.where(((rows + columns) % 2 == 0)[..., None], yellow, blue).astype(np.uint8)


class Blended(Picture):
    """A picture of the whole image's size, blended in; the built-in one is coloured noise.

    Source: Chen et al. 2017, https://arxiv.org/abs/1712.05526, section 4.2, blended injection.
    """

    kind: Literal["blended"] = "blended"
    """Which trigger this is."""
    opacity: float = Field(default=0.2, gt=0, le=1)
    """Weight of the picture against the image under it."""

    @property
    def extent(self) -> int:
        """See `Trigger.extent`."""
        return 1

    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Trigger.perturb`."""
        resolution = x.shape[-1]
        return art.insert_picture(x, self._picture(resolution), corner=0, size=resolution, opacity=self.opacity)

    def built_in(self, resolution: int) -> NDArray[np.uint8]:
        """See `Picture.built_in`."""
        return np.random.default_rng(NOISE_SEED).integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)


def _named(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


AnyTrigger = Annotated[Pattern | SinglePixel | Patch | Blended, Field(discriminator="kind"), BeforeValidator(_named)]
"""A trigger by its kind: `pattern`, or `{kind: patch, size: 4}`."""
