import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.datasets import vegetables
from harness.datasets.vegetables import KAGGLE_NAME, Vegetables
from harness.errors import DataError
from tests.conftest import MakeFolder


def install_kagglehub(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> list[str]:
    asked: list[str] = []

    def dataset_download(name: str) -> str:
        asked.append(name)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=dataset_download))
    monkeypatch.setattr(vegetables, "find_spec", lambda name: object())
    return asked


@pytest.mark.parametrize("inner", ["", "Vegetable Images", "archive/Vegetable Images", "a/b/Vegetable Images"])
def test_photographs_are_found_at_the_root_or_in_the_inner_folder(make_folder: MakeFolder, tmp_path: Path, inner: str) -> None:
    make_folder(f"given/{inner}")
    data = Vegetables(root=str(tmp_path / "given"), resolution=8).load()
    assert data.name == "vegetables"
    assert len(data.splits["train"]) == 8
    assert data.splits["train"].ids[0] == "train/Leek/00.jpg"


def test_inner_folder_does_not_change_the_content_hash(make_folder: MakeFolder) -> None:
    plain, nested = make_folder("plain"), make_folder("nested/Vegetable Images").parent
    assert Vegetables(root=str(plain)).load().content_hash == Vegetables(root=str(nested)).load().content_hash


def test_without_root_the_photographs_come_from_kaggle(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = install_kagglehub(monkeypatch, make_folder("kaggle/1/Vegetable Images").parent)
    assert len(Vegetables(resolution=8).load().splits["test"]) == 6
    assert asked == [KAGGLE_NAME]


def test_without_kagglehub_the_error_says_what_to_download_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vegetables, "find_spec", lambda name: None)
    with pytest.raises(DataError) as error:
        Vegetables().load()
    for part in ("kagglehub is not installed", KAGGLE_NAME, "--set dataset.root='/path/to/Vegetable Images'"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_failed_download_tells_its_reason_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    install_kagglehub(monkeypatch, ConnectionError("no route\nto host"))
    with pytest.raises(DataError, match=r"kagglehub failed: no route to host\. Download the data set .* --set dataset\.root"):
        Vegetables().load()


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nowhere", "nowhere: expected a folder of images"),
        ("~nobody-there/x", "expected a path"),
        ("x" * 300, "File name too long"),
    ],
)
def test_root_that_cannot_be_read_is_named_by_its_field(root: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^dataset.root: .*{message}"):
        Vegetables(root=root).load()
