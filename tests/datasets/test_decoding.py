from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from harness.datasets.decoding import check_encoded, read_image, resized
from harness.errors import DataError


def gradient(width: int = 8, height: int = 6) -> Image.Image:
    ramp = np.arange(width * height, dtype=np.uint8).reshape(height, width) * 5
    return Image.fromarray(np.stack([ramp, ramp[::-1], 255 - ramp], axis=2))


def test_png_pixels_come_back_exactly(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(gradient()))


def test_grey_is_repeated_over_the_channels(tmp_path: Path) -> None:
    gradient().convert("L").save(tmp_path / "a.png")
    red, green, blue = read_image(tmp_path / "a.png")
    assert torch.equal(red, green)
    assert torch.equal(red, blue)
    assert red.unique().numel() > 10


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 10, 257 * 128, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [0, 10, 128, 255]


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    flat = Image.new("RGB", (16, 16), (200, 40, 90))
    flat.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    pixels = read_image(tmp_path / "a.jpg").float()
    assert pixels.shape == (3, 16, 16)
    assert torch.allclose(pixels.mean(dim=(1, 2)), torch.tensor([200.0, 40.0, 90.0]), atol=4)


@pytest.mark.parametrize("image_format", ["jpg", "png"])
def test_exif_orientation_is_applied(tmp_path: Path, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 16, 16))
    image.save(tmp_path / f"a.{image_format}", exif=exif)
    pixels = read_image(tmp_path / f"a.{image_format}")
    assert pixels.shape == (3, 32, 16)
    assert pixels[:, :15].float().mean() > 250
    assert pixels[:, 17:].float().mean() < 5


def test_alpha_is_dropped_and_the_colour_below_it_kept(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.filterwarnings("error")
def test_palette_with_transparency_becomes_rgb(tmp_path: Path) -> None:
    image = gradient().quantize(16)
    image.info["transparency"] = bytes(range(16))
    image.save(tmp_path / "a.png")
    expected = gradient().quantize(16).convert("RGB")
    assert np.array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0).numpy(), np.asarray(expected))


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"a\.jpg: expected an image"):
        read_image(tmp_path / "a.jpg")


def fails(decode: Callable[[], object]) -> bool:
    try:
        decode()
    except (DataError, OSError, SyntaxError):
        return True
    return False


@given(share=st.floats(0, 1), progressive=st.booleans())
def test_check_refuses_exactly_the_truncated_jpegs_that_full_decoding_refuses(share: float, progressive: bool) -> None:
    buffer = BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "jpeg", progressive=progressive)
    data = buffer.getvalue()[: int(share * len(buffer.getvalue()))]
    assert fails(lambda: check_encoded(data)) == fails(lambda: Image.open(BytesIO(data)).convert("RGB"))
    assert share > 0.99 or fails(lambda: check_encoded(data))


def test_resize_is_antialiased_bilinear_in_floating_point() -> None:
    pixels = torch.randint(0, 256, (3, 37, 53), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = resized(pixels, 16)
    expected = interpolate(pixels[None].float() / 255, (16, 16), mode="bilinear", antialias=True)[0]
    assert image.dtype == torch.float32
    assert torch.allclose(image, expected, atol=1e-6)


def test_resize_agrees_with_pillow_within_its_rounding() -> None:
    image = Image.effect_noise((64, 48), 60).convert("RGB")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    by_pillow = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR))
    difference = resized(pixels, 20).permute(1, 2, 0).numpy() * 255 - by_pillow
    assert np.abs(difference).max() <= 1.5


def test_white_stays_within_the_bounds() -> None:
    assert resized(torch.full((3, 348, 464), 255, dtype=torch.uint8), 224).max() <= 1


def test_crop_takes_the_centred_square() -> None:
    pixels = torch.zeros(3, 4, 10)
    pixels[:, :, 3:7] = 1
    assert torch.equal(resized(pixels, 4, "crop"), torch.ones(3, 4, 4))
    assert resized(pixels, 4, "squash").mean() == pytest.approx(0.4, abs=0.01)


def test_image_of_the_right_size_is_left_as_it_is() -> None:
    image = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(resized(image, 9), image)
