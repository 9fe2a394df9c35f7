"""Class names that are long, or no plain text, in figures and on the page."""

import os
from pathlib import Path

import pytest
from PIL import Image

from harness.datasets.image_folder import ImageFolder
from harness.reports.figures import curves
from harness.reports.figures.curves import draw_figures
from harness.reports.load import load_results
from harness.reports.page.html import write_report
from harness.reports.tables.write import write_tables
from tests.reports.conftest import Write
from tests.reports.planted import clean_result, record_of

AWKWARD = (80 * "m", "$x^$ & <b>", "\x1b[31mred\\xe9")


def test_report_of_awkward_class_names_is_drawn_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tables(record_of([clean_result("pgd")], class_names=AWKWARD, histories={}), tmp_path / "run")
    page = write_report(load_results(tmp_path / "run")).read_text()
    assert "not drawn" not in page + caplog.text
    assert AWKWARD[0] in page
    assert {"confusion__pgd.png", "per_class__pgd.svg"} <= {path.name for path in (tmp_path / "run" / "curves").iterdir()}


def test_figure_that_fails_leaves_a_note_and_the_others(
    written: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    results = written([clean_result("pgd")], histories={})

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no room")

    monkeypatch.setattr(curves, "_per_class_figure", fail)
    page = write_report(results).read_text()
    assert "curves/per_class__pgd is not drawn: ZeroDivisionError: no room" in page
    assert "per_class__pgd is not drawn" in caplog.text
    names = {path.stem for path in draw_figures(load_results(results.folder)).files}
    assert "confusion__pgd" in names
    assert "per_class__pgd" not in names


def test_folder_whose_name_is_no_utf8_is_a_class(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    for folder in (name, "tea"):
        try:
            (tmp_path / "data" / folder).mkdir(parents=True)
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        for number in range(6):
            Image.new("RGB", (8, 8), (number, len(folder), 0)).save(tmp_path / "data" / folder / f"{number}-{folder}.png")
    data = ImageFolder(root=str(tmp_path / "data"), resolution=8).load()
    assert data.class_names == ("caf\\xe9", "tea")
    ids = [name for split in data.splits.values() for name in split.ids]
    assert "\n".join(ids).encode()
    assert sum(len([split[index] for index in range(len(split))]) for split in data.splits.values()) == 12
