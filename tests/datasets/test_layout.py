import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from harness.datasets.layout import read_classes, read_layout, read_split_layout
from harness.errors import DataError
from tests.conftest import MakeFolder


def test_split_folders_and_classes_are_listed_in_order(make_folder: MakeFolder) -> None:
    layout = read_layout(make_folder())
    assert layout.class_names == ("Leek", "Onion")
    assert list(layout.files) == ["train", "validation", "test"]
    assert layout.files["validation"] == (
        ("validation/Leek/00.jpg", "validation/Leek/01.png"),
        ("validation/Onion/00.jpg", "validation/Onion/01.png"),
    )


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_other_names_of_the_validation_folder_are_understood(make_folder: MakeFolder, name: str) -> None:
    layout = read_layout(make_folder(splits={"train": 1, name: 1, "Test": 1}))
    assert list(layout.files) == ["train", "validation", "test"]
    assert layout.files["validation"][0] == (f"{name}/Leek/00.jpg",)


def test_folder_of_class_folders_counts_as_training_images(make_folder: MakeFolder) -> None:
    layout = read_layout(make_folder(splits={"": 3}))
    assert list(layout.files) == ["train"]
    assert layout.files["train"][1] == ("Onion/00.jpg", "Onion/01.png", "Onion/02.jpg")


def test_images_in_folders_below_a_class_belong_to_it(make_folder: MakeFolder) -> None:
    root = make_folder(splits={"": 1})
    shutil.copytree(root / "Leek", root / "Leek" / "2024" / "May")
    assert read_layout(root).files["train"][0] == ("Leek/00.jpg", "Leek/2024/May/00.jpg")


def test_other_files_hidden_names_and_macos_leftovers_are_ignored(make_folder: MakeFolder) -> None:
    root = make_folder(splits={"": 1})
    expected = read_layout(root)
    for name in ("notes.txt", "Leek/Thumbs.db", "Leek/._00.jpg", "__MACOSX/Leek/00.jpg", ".cache/Leek/00.jpg", "Leek/.x/00.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("no image")
    assert read_layout(root) == expected


def test_empty_classes_are_named(make_folder: MakeFolder) -> None:
    root = make_folder()
    for name in ("test/Leek", "validation/Onion"):
        shutil.rmtree(root / name)
        (root / name).mkdir()
    (root / "test/Leek/readme.txt").write_text("no image")
    with pytest.raises(DataError, match="at least one image in every class folder, found none in validation/Onion, test/Leek"):
        read_layout(root)


def test_classes_that_differ_between_splits_are_named(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "test/Leek").rename(root / "test/leek")
    with pytest.raises(DataError, match="there is no 'leek' in train, 'leek' in validation, 'Leek' in test"):
        read_layout(root)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: expected a folder of images, found nothing"):
        read_layout(tmp_path / "absent")


def test_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected it to be readable, found File name too long"):
        read_layout(tmp_path / ("x" * 300))


def test_class_folder_that_may_not_be_read_is_not_left_out(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(splits={"": 2})
    scan = os.scandir

    def refuse_leek(folder: Path) -> object:
        if Path(folder).name == "Leek":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse_leek)
    for read in (read_layout, lambda root: read_classes(root, ["Leek", "Onion"])):
        with pytest.raises(DataError, match="Leek: expected it to be readable, found Permission denied"):
            read(root)


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"archive\.zip: expected a folder of images, found a file"):
        read_layout(tmp_path / "archive.zip")


def test_splits_without_training_images_are_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match="expected a folder 'train' beside test, val"):
        read_layout(make_folder(splits={"val": 1, "test": 1}))


def test_two_folders_for_one_split_are_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match="one folder for the split 'validation', found val and validation"):
        read_layout(make_folder(splits={"train": 1, "val": 1, "validation": 1}))


@pytest.mark.parametrize(("classes", "found"), [(("Leek",), "found Leek"), ((), "found none")])
def test_fewer_than_two_classes_are_refused(
    make_folder: MakeFolder, tmp_path: Path, classes: tuple[str, ...], found: str
) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=f"expected two or more class folders, {found}"):
        read_layout(make_folder(splits={"": 1}, classes=classes))


def test_known_classes_are_listed_in_their_order_and_may_have_no_folder(make_folder: MakeFolder) -> None:
    root = make_folder(splits={"": 2})
    assert read_classes(root, ["Onion", "Kale", "Leek"]) == (("Onion/00.jpg", "Onion/01.png"), (), ("Leek/00.jpg", "Leek/01.png"))


def test_folder_of_an_unknown_class_is_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match=r"photos: expected folders named as the classes Leek, Kale, found Onion$"):
        read_classes(make_folder(splits={"": 1}), ["Leek", "Kale"])


def test_known_classes_without_any_folder_or_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: expected a folder of images, found nothing"):
        read_classes(tmp_path / "nowhere", ["Leek"])
    with pytest.raises(DataError, match=r"expected folders named as the classes Leek, found none"):
        read_classes(tmp_path, ["Leek"])
    (tmp_path / "Leek").mkdir()
    with pytest.raises(DataError, match=r"expected at least one image in every class folder, found none in Leek"):
        read_classes(tmp_path, ["Leek"])


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("training_set", "test_set"), ("seg_train", "seg_test"), ("TRAIN", "eval")]
)
def test_split_folders_of_common_names_are_no_classes(make_folder: MakeFolder, train: str, test: str) -> None:
    layout = read_layout(make_folder(splits={train: 2, test: 1}))
    assert layout.class_names == ("Leek", "Onion")
    assert layout.files["test"] == ((f"{test}/Leek/00.jpg",), (f"{test}/Onion/00.jpg",))
    assert list(layout.files) == ["train", "test"]


def test_split_folder_inside_one_of_its_own_name_is_found(make_folder: MakeFolder) -> None:
    layout = read_layout(make_folder(splits={"seg_train/seg_train": 1, "seg_test/seg_test": 1}))
    assert layout.files["train"][0] == ("seg_train/seg_train/Leek/00.jpg",)
    assert layout.class_names == ("Leek", "Onion")


@pytest.mark.parametrize("other", ["holdout", "seg_pred", "Lot 2"])
def test_folder_of_images_beside_splits_is_refused_with_what_to_do(make_folder: MakeFolder, other: str) -> None:
    root = make_folder(splits={"train": 1, "val": 1, other: 1})
    with pytest.raises(DataError, match=f"no other folder of images beside the splits train, val, found {other}; name what is"):
        read_layout(root)


def test_folder_without_images_beside_splits_does_not_matter(make_folder: MakeFolder) -> None:
    root = make_folder(splits={"train": 1, "val": 1})
    expected = read_layout(root)
    (root / "annotations").mkdir()
    (root / "annotations" / "boxes.csv").write_text("")
    assert read_layout(root) == expected


@pytest.mark.parametrize("splits", [{"lot1": 2, "lot2": 1}, {"amazon/images": 1, "dslr/images": 1}, {"train/a": 1, "train/b": 1}])
def test_classes_that_all_hold_the_same_folders_are_refused(make_folder: MakeFolder, splits: dict[str, int]) -> None:
    with pytest.raises(
        DataError, match=r"expected a folder a class, found .*, which all hold the same folders .*Leek, .*Onion; if"
    ):
        read_layout(make_folder(splits=splits))


def test_one_folder_inside_every_class_is_allowed(make_folder: MakeFolder) -> None:
    root = make_folder(splits={"": 2})
    for name in ("Leek", "Onion"):
        shutil.copytree(root / name, root / "deep" / name / "images")
    assert read_layout(root / "deep").files["train"][0] == ("Leek/images/00.jpg", "Leek/images/01.png")


def test_finished_models_need_no_training_folder(make_folder: MakeFolder) -> None:
    layout = read_split_layout(make_folder(splits={"val": 1}))
    assert (list(layout.files), layout.has_splits) == (["validation"], True)
    assert not read_split_layout(make_folder("whole", splits={"": 1})).has_splits


def test_skipped_files_are_counted_and_said_by_split(make_folder: MakeFolder, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder()
    for name in ("train/Leek/a.heic", "train/Leek/b.HEIC", "train/notes.txt", "test/Onion/x/README", "test/Leek/.hidden.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("no image")
    (root / "test/Leek/link").symlink_to(root / "train/Leek")
    layout = read_layout(root)
    assert layout.skipped == {
        "train": {".heic": 2, ".txt outside the class folders": 1},
        "test": {"without an ending": 1, "links to folders": 1},
    }
    assert "taken for no images: in train 3 (2 .heic, 1 .txt outside the class folders); in test 2 (1 links" in caplog.text


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Purée") for form in ("NFC", "NFD"))


def test_two_forms_of_a_class_name_are_one_class(make_folder: MakeFolder) -> None:
    root = make_folder(splits={"train": 1}, classes=("Onion", COMPOSED))
    shutil.copytree(root / "train", root / "val")
    (root / "val" / COMPOSED).rename(root / "val" / DECOMPOSED)
    layout = read_layout(root)
    assert layout.class_names == ("Onion", COMPOSED)
    assert layout.files["validation"][1] == (f"val/{DECOMPOSED}/00.jpg",)
    assert read_classes(root / "val", ("Onion", COMPOSED)) == (("Onion/00.jpg",), (f"{DECOMPOSED}/00.jpg",))


def test_two_forms_of_a_class_name_side_by_side_are_one_class(make_folder: MakeFolder) -> None:
    layout = read_layout(make_folder(splits={"": 1}, classes=("Onion", COMPOSED, DECOMPOSED)))
    assert layout.files["train"][1] == (f"{DECOMPOSED}/00.jpg", f"{COMPOSED}/00.jpg")
