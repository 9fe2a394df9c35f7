"""The base of the corruption plug-ins: one image at one severity. `harness.corruptions.stream` applies it to splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from harness.registry import Plugin, Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor


Group = Literal["noise", "blur", "weather", "digital", "geometry", "encoding"]
"""Where the corruption occurs: sensor, optics, scene, processing, pose, or file."""

REFERENCE_SIDE = 224
"""Side length in pixels of the images of ImageNet-C, whose lengths scale with the side at other resolutions."""


class Corruption(Plugin, ABC):
    """Base of the corruptions: image changes without an attacker, at rising severities."""

    GROUP: ClassVar[Group]
    """See `Group`."""
    LEVELS: ClassVar[int] = 5
    """The number of severities."""

    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    """The severities to score: whole numbers from 1, mildest first."""

    @model_validator(mode="after")
    def _severities_rise_within_the_levels(self) -> Self:
        if not self.severities or any(self.supports(severity) for severity in self.severities):
            raise ValueError(f"severities: expected whole numbers from 1 to {self.LEVELS}, got {list(self.severities)}")
        if list(self.severities) != sorted(set(self.severities)):
            raise ValueError(f"severities: expected rising numbers, each once, got {list(self.severities)}")
        return self

    def supports(self, severity: int) -> str | None:
        """Returns None if the corruption has this severity, else the reason why not."""
        if 1 <= severity <= self.LEVELS:
            return None
        return f"{self.name} has the severities 1 to {self.LEVELS}, not {severity}"

    @abstractmethod
    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """Returns the corrupted image; values outside [0,1] are clipped by the caller.

        Args:
            x: One image (3, H, W), float32 in [0,1], on the CPU; must not be changed in place.
            severity: From 1 (mild) to `LEVELS`.
            generator: Source of every random choice. It has the same state at the start of every severity: draw first and then
                scale by the severity, so that an image has the same random change at all severities.

        Returns:
            An image of the same shape and dtype.
        """


CORRUPTIONS: Registry[Corruption] = Registry(
    "corruptions",
    {
        "gaussian_noise": "harness.corruptions.noise:GaussianNoise",
        "shot_noise": "harness.corruptions.noise:ShotNoise",
        "impulse_noise": "harness.corruptions.noise:ImpulseNoise",
        "speckle_noise": "harness.corruptions.noise:SpeckleNoise",
        "gaussian_blur": "harness.corruptions.blur:GaussianBlur",
        "defocus_blur": "harness.corruptions.blur:DefocusBlur",
        "glass_blur": "harness.corruptions.blur:GlassBlur",
        "motion_blur": "harness.corruptions.blur:MotionBlur",
        "zoom_blur": "harness.corruptions.blur:ZoomBlur",
        "fog": "harness.corruptions.weather:Fog",
        "snow": "harness.corruptions.weather:Snow",
        "brightness": "harness.corruptions.weather:Brightness",
        "contrast": "harness.corruptions.digital:Contrast",
        "pixelate": "harness.corruptions.digital:Pixelate",
        "jpeg_compression": "harness.corruptions.encoding:JpegCompression",
        "jpeg": "harness.corruptions.encoding:Jpeg",
        "rounding": "harness.corruptions.encoding:Rounding",
        "rotation": "harness.corruptions.geometry:Rotation",
        "translation": "harness.corruptions.geometry:Translation",
        "occlusion": "harness.corruptions.geometry:Occlusion",
    },
)
