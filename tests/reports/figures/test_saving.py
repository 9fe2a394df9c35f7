"""Figures as files."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.reports.figures.saving import DPI, NEAR_AN_END, carries, png


@pytest.mark.parametrize(("alpha", "mode"), [(255, "RGB"), (7, "RGBA")])
def test_a_png_holds_every_pixel_its_resolution_and_its_description(alpha: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    pixels[..., 3] = alpha
    with Image.open(io.BytesIO(png(pixels, description="what it shows"))) as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image.convert("RGBA")), pixels)
        assert image.info["Description"] == "what it shows"
        assert image.info["dpi"] == pytest.approx((DPI, DPI), rel=1e-4)


def test_a_fingerprint_is_found_at_either_end_of_a_file(tmp_path: Path) -> None:
    middle = b"\0" * 3 * NEAR_AN_END
    for name, content in (("begins", b"print" + middle), ("ends", middle + b"print"), ("lacks", middle)):
        (tmp_path / name).write_bytes(content)
    found = [carries(tmp_path / name, "print") for name in ("begins", "ends", "lacks", "no file")]
    assert found == [True, True, False, False]
