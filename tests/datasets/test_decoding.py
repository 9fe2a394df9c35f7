import os
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from torch.nn.functional import interpolate

from harness.datasets import decoding
from harness.datasets.decoding import check_encoded, image_suffixes, read_encoded, read_image, resized
from harness.errors import DataError
from harness.images import MAX_PIXELS


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


RAMP = np.tile(np.linspace(0, 1, 16), (4, 1))
STEPS = [17 * step for step in range(16)]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (RAMP.astype(np.float32), "a.tif"),
        ((RAMP * 65535).round().astype(np.int32), "a.tif"),
        ((RAMP * 65535).round().astype(np.uint16), "a.tif"),
        ((RAMP * 65535).round().astype(np.uint16), "a.pgm"),
        ((RAMP * 65535).round().astype(np.uint16), "a.png"),
        (RAMP.astype(np.float32), "a.pfm"),
    ],
)
def test_grey_of_more_than_8_bits_is_scaled(tmp_path: Path, values: np.ndarray, name: str) -> None:
    Image.fromarray(values).save(tmp_path / name)
    assert read_image(tmp_path / name)[:, 0].tolist() == [STEPS] * 3
    assert check_encoded((tmp_path / name).read_bytes())


def test_dark_16_bit_pgm_stays_dark(tmp_path: Path) -> None:
    Image.fromarray((RAMP * 255).astype(np.uint16)).save(tmp_path / "a.pgm")
    assert read_image(tmp_path / "a.pgm").max() == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (RAMP * 255, r"floating-point values in \[0,1\], got 0 to 255"),
        (RAMP * 65535, r"floating-point values in \[0,1\], got 0 to 6.554e\+04"),
        (RAMP - 0.5, r"got -0.5 to 0.5"),
        (np.where(RAMP == 0, np.nan, RAMP), r"got nan to nan"),
        ((RAMP * 255).astype(np.int32), "32-bit values from 0 to 65535, some above 255, got 0 to 255"),
        ((RAMP * 1e6).astype(np.int32), "32-bit values from 0 to 65535, some above 255, got 0 to 1000000"),
        ((RAMP * 1000 - 9).astype(np.int32), "got -9 to 991"),
    ],
)
def test_values_of_an_unknown_range_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    values = values.astype(np.float32) if values.dtype == np.float64 else values
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a\.tif: expected {message}" if message.startswith(("32", "fl")) else message):
        read_image(tmp_path / "a.tif")
    with pytest.raises(DataError, match=message):
        check_encoded((tmp_path / "a.tif").read_bytes())


@pytest.mark.parametrize("value", [0, 300])
def test_flat_32_bit_images_are_read_where_their_range_shows(tmp_path: Path, value: int) -> None:
    Image.fromarray(np.full((2, 2), value, dtype=np.int32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").unique().tolist() == [round(value / 257)]


def test_what_pillow_decodes_is_an_image_by_its_ending() -> None:
    found = image_suffixes()
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".pgm"} <= found
    assert (".avif" in found) == features.check("avif")
    assert {".jp2", ".j2k", ".tga", ".ico"} <= found


def test_programs_and_files_that_pillow_only_recognises_are_no_images() -> None:
    assert not image_suffixes() & {".eps", ".ps", ".pdf", ".mpg", ".h5", ".hdf", ".grib", ".bufr", ".wmf", ".txt", ""}


def test_ending_that_a_plug_in_registers_counts_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Image.EXTENSION, ".heic", "PNG")
    assert ".heic" in image_suffixes()


def test_postscript_under_another_ending_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="cannot identify the format"):
        read_image(tmp_path / "a.jpg")


@pytest.fixture
def no_files(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A FIFO that nobody writes to, a socket, a device without end, and links to the first and the last."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.png"))
        yield {"a FIFO": tmp_path / "link.png", "a socket": tmp_path / "s.png", "a device": tmp_path / "zero.png"}


def test_what_is_no_regular_file_is_not_opened(no_files: dict[str, Path]) -> None:
    for what, path in {**no_files, "a folder": no_files["a FIFO"].parent}.items():
        for read in (read_image, read_encoded):
            with pytest.raises(DataError, match=f"expected a regular file, got {what}"):
                read(path)


def header_of(width: int, height: int) -> bytes:
    """Returns a PNG that claims so many pixels."""
    buffer = BytesIO()
    Image.new("1", (1, 1)).save(buffer, "png")
    data = buffer.getvalue()
    head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "message"), [(MAX_PIXELS + 1, f"got {MAX_PIXELS + 1} x 1"), (10**9, "more than twice as many")]
)
def test_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, width: int, message: str) -> None:
    (tmp_path / "a.png").write_bytes(header_of(width, 1))
    for read in (read_image, lambda path: check_encoded(read_encoded(path))):
        with pytest.raises(
            DataError, match=f"expected at most {MAX_PIXELS} pixels, {message}|expected at most .*, got {message}"
        ):
            read(tmp_path / "a.png")


def test_image_of_the_most_pixels_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 48)
    gradient(8, 6).save(tmp_path / "a.png")
    gradient(7, 7).save(tmp_path / "b.png")
    assert read_image(tmp_path / "a.png").shape == (3, 6, 8)
    with pytest.raises(DataError, match="expected at most 48 pixels, got 7 x 7"):
        read_image(tmp_path / "b.png")


def test_evaluator_in_cpp_has_the_same_limit() -> None:
    source = (Path(__file__).parents[2] / "cpp_eval" / "src" / "images" / "image.hpp").read_text()
    found = re.search(r"kMaxPixels = ([\d']+);", source)
    assert found is not None
    assert int(found.group(1).replace("'", "")) == MAX_PIXELS


def test_file_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient().save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "MAX_BYTES", 20)
    with pytest.raises(DataError, match="expected a file of at most 20 bytes, got one of"):
        read_encoded(tmp_path / "a.png")


def test_long_file_that_is_no_image_is_refused_at_its_header(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="cannot identify"):
        read_encoded(tmp_path / "a.png")
