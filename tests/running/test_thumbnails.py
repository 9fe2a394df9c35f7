"""Thumbnails of test examples in the results folder."""

import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from harness.errors import DataError
from harness.images import View
from harness.reports.page.examples import ACROSS, COLUMNS, SHEET, TABLE
from harness.running.thumbnails import MOST_BYTES, SIDE, first_of_each_class, sheet_of, write_thumbnails


class Split:
    """Images of one colour each; counts how many are read."""

    def __init__(self, labels: list[int], side: int = 16) -> None:
        self.labels = np.array(labels, np.int64)
        self.ids = [f"image {place}, of a comma" for place in range(len(labels))]
        self.hashes = [f"{place:064x}" for place in range(len(labels))]
        self.side = side
        self.read = 0
        self.gone = False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self.gone:
            raise DataError("the images are gone")
        self.read += 1
        return torch.full((3, self.side, self.side), index / len(self)), int(self.labels[index])


class Noise(Split):
    """Images that no JPEG makes small."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(3, self.side, self.side, generator=torch.Generator().manual_seed(index)), 0


def run_of(split: Split) -> Any:
    examples = SimpleNamespace(of=lambda data: View(split, np.arange(len(split))))
    data = SimpleNamespace(class_names=("beet", "carrot", "null"))
    suite = SimpleNamespace(dataset=SimpleNamespace(model_dump_json=lambda: f'{{"resolution": {split.side}}}'))
    return SimpleNamespace(plan=SimpleNamespace(examples=examples, suite=suite), context=SimpleNamespace(data=data))


def test_thumbnails_are_spread_evenly_over_classes() -> None:
    labels = np.array([2, 0, 0, 0, 0, 0, 1, 2, 1, 0])
    assert first_of_each_class(labels, 5) == [1, 2, 6, 8, 0], "the first and second of each class, then no third"
    assert first_of_each_class(labels, 2) == [1, 6]
    assert sorted(first_of_each_class(labels, 300)) == list(range(10))
    counts = np.bincount(np.arange(600)[first_of_each_class(np.arange(600) % 7, 300)] % 7)
    assert counts.sum() == 300
    assert counts.max() - counts.min() <= 1


def test_sheet_has_each_example_at_the_place_that_the_table_says(tmp_path: Path) -> None:
    split = Split([place % 3 for place in range(45)])
    write_thumbnails(run_of(split), tmp_path)
    table = pd.read_csv(tmp_path / TABLE, keep_default_na=False)
    assert list(table.columns) == list(COLUMNS)
    assert list(table["place"]) == list(range(45))
    assert list(table["class"]) == ["beet"] * 15 + ["carrot"] * 15 + ["null"] * 15
    sheet = Image.open(tmp_path / SHEET)
    assert sheet.size == (16 * ACROSS, 16 * 3)
    for place, name in zip(table["place"], table["example_id"], strict=True):
        pixel = sheet.getpixel((place % ACROSS * 16 + 15, place // ACROSS * 16))
        assert np.abs(np.array(pixel) - 255 * split.ids.index(name) / 45).max() <= 3


@pytest.mark.parametrize(("side", "expected"), [(1, 8), (8, 8), (28, 32), (64, 64), (65, 64), (224, 64)])
def test_a_thumbnail_has_at_most_64_pixels_in_whole_blocks(side: int, expected: int) -> None:
    sheet = Image.open(io.BytesIO(sheet_of(Split([0, 0], side), [0, 1])))
    assert sheet.size == (2 * expected, expected)
    assert expected <= SIDE


def test_sheet_is_small_whatever_it_shows() -> None:
    assert len(sheet_of(Noise([0] * 300, side=64), range(300))) <= MOST_BYTES


def test_no_image_is_read_where_the_thumbnails_are_there(tmp_path: Path) -> None:
    split = Split([0, 1, 2])
    write_thumbnails(run_of(split), tmp_path)
    assert split.read == 3
    write_thumbnails(run_of(split), tmp_path)
    assert split.read == 3
    (tmp_path / SHEET).unlink()
    write_thumbnails(run_of(split), tmp_path)
    assert (split.read, (tmp_path / SHEET).is_file()) == (6, True)
    changed = Split([0, 1, 2])
    changed.hashes[1] = "f" * 64
    write_thumbnails(run_of(changed), tmp_path)
    assert changed.read == 3
    larger = Split([0, 1, 2], side=24)  # the same files at another resolution
    larger.hashes = changed.hashes
    write_thumbnails(run_of(larger), tmp_path)
    assert larger.read == 3


def test_a_run_whose_images_are_gone_does_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_thumbnails(run_of(Split([0, 2])), tmp_path)
    split = Split([0, 1])
    split.gone = True
    with caplog.at_level(logging.WARNING):
        write_thumbnails(run_of(split), tmp_path)
    assert "no thumbnails of examples: the images are gone" in caplog.text
    assert list(tmp_path.rglob("*.*")) == [], "those of other examples are removed"


def test_thumbnails_of_other_examples_go_when_there_are_none(tmp_path: Path) -> None:
    write_thumbnails(run_of(Split([0])), tmp_path)
    write_thumbnails(run_of(Split([])), tmp_path)
    assert list(tmp_path.rglob("*.*")) == []
