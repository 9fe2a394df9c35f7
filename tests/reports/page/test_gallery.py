"""The page's pictures of attacked images."""

import json
from pathlib import Path

import pytest
from PIL import Image

from harness.errors import HarnessError
from harness.reports.page.gallery import pictures
from harness.reports.page.html import render
from tests.reports.conftest import Write
from tests.reports.planted import attack_results, clean_result

EXAMPLES = [
    {"example_id": "a", "label": 0, "clean_prediction": 0, "prediction": 1, "smallest_eps": 4 / 255},
    {"example_id": "b", "label": 2, "clean_prediction": 2, "prediction": 2, "smallest_eps": None},
]
CELL = "pgd__pgd__eps-8-255"


def kept(folder: Path, text: str = json.dumps(EXAMPLES)) -> None:
    (folder / "attacked").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "attacked" / f"{CELL}.png")
    (folder / "attacked" / f"{CELL}.json").write_text(text)


def test_picture_names_classes_before_and_after(written: Write) -> None:
    results = written([clean_result("pgd"), *attack_results("pgd", "pgd")])
    assert list(pictures(results)) == []
    kept(results.folder)
    (picture,) = pictures(results)
    assert picture.title == "pgd, pgd 8/255"
    assert picture.captions == ("beet \N{RIGHTWARDS ARROW} carrot from 4/255", "null withstands")
    assert picture.file == "", "a copy without the images has no link to them"
    (results.folder / "attacked" / f"{CELL}.h5").write_bytes(b"x")
    assert next(iter(pictures(results))).file == f"attacked/{CELL}.h5"
    page = render(results)
    assert '<section id="gallery">' in page
    assert f'href="attacked/{CELL}.h5"' in page


@pytest.mark.parametrize(
    "text", ["{", '[{"clean_prediction": 0}]', '[{"clean_prediction": 0, "prediction": 99, "smallest_eps": null}]']
)
def test_damaged_description_is_one_error(written: Write, text: str) -> None:
    results = written([clean_result("pgd"), *attack_results("pgd", "pgd")])
    kept(results.folder, text)
    with pytest.raises(HarnessError, match="picture of attacked images"):
        list(pictures(results))
