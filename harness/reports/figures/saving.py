"""Saves a figure as SVG, PDF or PNG; the same figure gives the same bytes."""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.system.lazy import agg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 300
INCH = 0.0254
"""Metres."""
OPAQUE = 255
COMPRESSION = 6
SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB, RGBA = 2, 6
"""PNG's numbers of kinds of pixels."""
UP = 2
"""PNG's number of the filter that has each row as its difference to the one above."""
LAYOUT_TABLES = ("GDEF", "GPOS", "GSUB", "kern")
"""Tables of a font that say how letters are placed, which a PDF says itself."""
NEAR_AN_END = 2**16
"""Bytes of a file within which its fingerprint stands: PNG and SVG begin with it, PDF ends with it."""


def save(figure: Figure, path: Path, *, fingerprint: str) -> None:
    """Writes a figure in the form that a file's ending names.

    The file carries the fingerprint, and no hour or program, so that equal figures are equal files. A figure that is saved as PNG
    keeps its resolution, so PNG comes last.
    """
    if path.suffix == ".png":
        figure.dpi = DPI
        canvas = agg.FigureCanvasAgg(figure)
        canvas.draw()
        path.write_bytes(png(np.asarray(canvas.buffer_rgba()), description=fingerprint))
    elif path.suffix == ".pdf":
        with _fonts_without_layout():
            unnamed = dict.fromkeys(("CreationDate", "Creator", "Producer"))
            figure.savefig(path, metadata={"Subject": fingerprint, **unnamed})
    else:
        figure.savefig(path, metadata={"Description": fingerprint, "Date": None, "Creator": None})


def carries(path: Path, fingerprint: str) -> bool:
    """Returns whether a file is there that was saved with a fingerprint."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if fingerprint.encode() in file.read(NEAR_AN_END):
            return True
        file.seek(max(0, path.stat().st_size - NEAR_AN_END))
        return fingerprint.encode() in file.read()


def png(pixels: NDArray[np.uint8], *, description: str) -> bytes:
    """Returns a picture (H, W, 4) as a PNG file; without its fourth channel where that is opaque.

    Rows are stored as differences to the row above. Pillow tries five ways for each row: that takes twice as long and gives files
    of about the same size where the rows are those of a chart.
    """
    if (pixels[..., 3] == OPAQUE).all():
        pixels = np.ascontiguousarray(pixels[..., :3])
    height, width, channels = pixels.shape
    values = pixels.reshape(height, width * channels)
    rows = np.empty((height, 1 + values.shape[1]), np.uint8)
    rows[:, 0] = UP
    rows[0, 1:] = values[0]
    np.subtract(values[1:], values[:-1], out=rows[1:, 1:])
    per_metre = round(DPI / INCH)
    return SIGNATURE + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, RGBA if channels == 4 else RGB, 0, 0, 0)),
            _chunk(b"tEXt", b"Description\0" + description.encode("latin-1")),
            _chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)),
            _chunk(b"IDAT", zlib.compress(rows.data, COMPRESSION)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@contextmanager
def _fonts_without_layout() -> Iterator[None]:
    """Lets matplotlib embed fonts without the tables that place letters, of which it else takes half of a PDF's time to read."""
    library: Any = importlib.import_module("fontTools.subset")  # here, as a page whose figures are drawn needs none of it
    plain = library.Options

    def options(**given: Any) -> Any:
        found = plain(**given)
        found.drop_tables += LAYOUT_TABLES
        return found

    library.Options = options
    try:
        yield
    finally:
        library.Options = plain
