"""Backdoor triggers: what an attacker puts on an image."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BeforeValidator, Field

from harness.errors import DataError, SuiteError
from harness.images import MAX_PIXELS, open_regular
from harness.poisoning import art
from harness.poisoning.stamp import Stamp
from harness.spec import Spec
from harness.system.lazy import torch

NOISE_SEED = 20171215
"""Seed of the built-in blended trigger: the date of Chen et al. 2017."""


class BackdoorTrigger(Spec, ABC):
    """Base of the triggers. Those smaller than the image are at its lower right, as ART's are."""

    def identity(self) -> dict[str, Any]:
        """Returns the fields for digests, as plain JSON values; the content of a file replaces its path."""
        return self.model_dump(mode="json")

    @property
    @abstractmethod
    def extent(self) -> int:
        """Side length in pixels of the smallest image that the trigger fits."""

    @abstractmethod
    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns images (N, 3, R, R) with the trigger, computed by ART."""

    def check(self, resolution: int, *, where: str) -> None:
        """Checks that the trigger fits the images.

        Raises:
            SuiteError: if it is larger than the image, or its file is missing or no image.
        """
        if self.extent > resolution:
            raise SuiteError(f"{where}: expected a trigger within {resolution} pixels, got one that needs {self.extent}")

    def stamp(self, resolution: int) -> Stamp:
        """Returns the trigger at one resolution.

        ART applies the trigger to a black and to a white image, which define the stamp. Images are then stamped without
        ART when they are read; ART rounds to 8 bits, which would change every pixel of a photograph.

        Raises:
            SuiteError: see `check`.
        """
        self.check(resolution, where="trigger")
        probes = np.stack([np.full((3, resolution, resolution), value, dtype=np.float32) for value in (0, 1)])
        black, white = torch.from_numpy(art.backdoored(probes, self.perturb))
        return Stamp(black, white)


class Pattern(BackdoorTrigger):
    """Four pixels in a chequered pattern.

    Source: Gu et al. 2017, https://arxiv.org/abs/1708.06733, section 4.1.
    """

    kind: Literal["pattern"] = "pattern"
    """Which trigger this is."""
    margin: int = Field(default=2, ge=1)
    """Distance of its lowest right pixel from the image's edge, in pixels; 1 is the corner."""
    value: float = Field(default=1.0, ge=0, le=1)
    """Brightness of the trigger's pixels."""

    @property
    def extent(self) -> int:
        """See `BackdoorTrigger.extent`."""
        return self.margin + 2

    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `BackdoorTrigger.perturb`."""
        return art.add_pattern(x, distance=self.margin, value=self.value)


class SinglePixel(BackdoorTrigger):
    """One pixel.

    Source: Gu et al. 2017, https://arxiv.org/abs/1708.06733, section 4.1.
    """

    kind: Literal["single_pixel"] = "single_pixel"
    """Which trigger this is."""
    margin: int = Field(default=2, ge=1)
    """Distance of the pixel from the image's edge, in pixels; 1 is the corner."""
    value: float = Field(default=1.0, ge=0, le=1)
    """Brightness of the pixel."""

    @property
    def extent(self) -> int:
        """See `BackdoorTrigger.extent`."""
        return self.margin

    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `BackdoorTrigger.perturb`."""
        return art.add_single_pixel(x, distance=self.margin, value=self.value)


class PictureTrigger(BackdoorTrigger):
    """Base of the triggers that blend a picture into the image."""

    image: str | None = None
    """An image file, scaled to the trigger's size; a built-in picture by default."""
    opacity: float = Field(default=1.0, gt=0, le=1)
    """Weight of the picture; the image below it has the rest."""

    def identity(self) -> dict[str, Any]:
        """See `BackdoorTrigger.identity`."""
        content = None if self.image is None else hashlib.sha256(self._read("trigger")).hexdigest()
        return {**self.model_dump(mode="json", exclude={"image"}), "image_sha256": content}

    def check(self, resolution: int, *, where: str) -> None:
        """See `BackdoorTrigger.check`."""
        super().check(resolution, where=where)
        if self.image is not None:
            self._check_image(where)

    @abstractmethod
    def built_in(self, resolution: int) -> NDArray[np.uint8]:
        """Returns the picture (height, width, 3) that is used without a file."""

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


class Patch(PictureTrigger):
    """A small square picture; the built-in one is a yellow and blue chequerboard of two by two fields.

    Source: Gu et al. 2017, https://arxiv.org/abs/1708.06733, section 5 (a sticker on a traffic sign).
    """

    kind: Literal["patch"] = "patch"
    """Which trigger this is."""
    size: int = Field(default=4, ge=1)
    """Side length in pixels."""
    margin: int = Field(default=0, ge=0)
    """Pixels between the patch and the image's right and lower edges."""

    @property
    def extent(self) -> int:
        """See `BackdoorTrigger.extent`."""
        return self.size + self.margin

    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `BackdoorTrigger.perturb`."""
        corner = x.shape[-1] - self.extent
        return art.insert_picture(x, self._picture(x.shape[-1]), corner=corner, size=self.size, opacity=self.opacity)

    def built_in(self, resolution: int) -> NDArray[np.uint8]:
        """See `PictureTrigger.built_in`."""
        yellow, blue = (255, 220, 0), (0, 40, 255)
        rows, columns = np.indices((self.size, self.size)) * 2 // self.size
        return np.where(((rows + columns) % 2 == 0)[..., None], yellow, blue).astype(np.uint8)


class Blended(PictureTrigger):
    """A picture of the whole image's size, blended in; the built-in one is coloured noise.

    Source: Chen et al. 2017, https://arxiv.org/abs/1712.05526, section 4.2, blended injection.
    """

    kind: Literal["blended"] = "blended"
    """Which trigger this is."""
    opacity: float = Field(default=0.2, gt=0, le=1)
    """Weight of the picture; the image below it has the rest."""

    @property
    def extent(self) -> int:
        """See `BackdoorTrigger.extent`."""
        return 1

    def perturb(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `BackdoorTrigger.perturb`."""
        resolution = x.shape[-1]
        return art.insert_picture(x, self._picture(resolution), corner=0, size=resolution, opacity=self.opacity)

    def built_in(self, resolution: int) -> NDArray[np.uint8]:
        """See `PictureTrigger.built_in`."""
        return np.random.default_rng(NOISE_SEED).integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)


def _named(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


AnyTrigger = Annotated[Pattern | SinglePixel | Patch | Blended, Field(discriminator="kind"), BeforeValidator(_named)]
"""A trigger by its kind: `pattern`, or `{kind: patch, size: 4}`."""
