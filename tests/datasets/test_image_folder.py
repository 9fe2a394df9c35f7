import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from harness.datasets import checking, image_folder
from harness.datasets.augment import Augment
from harness.datasets.base import DATASETS, HeldOut
from harness.datasets.build import content_hash
from harness.datasets.decoding import Resize
from harness.datasets.image_folder import FileSplit, ImageFolder, read_class_folders
from harness.datasets.loading import training_batches
from harness.datasets.splits import take
from harness.errors import DataError
from harness.images import ImageData, read_detailed
from tests.conftest import MakeFolder


def load(root: Path, **fields: object) -> ImageData:
    return DATASETS.parse({"name": "image_folder", "root": str(root), "resolution": 8, **fields}).load()


def all_ids(data: ImageData) -> list[str]:
    return sorted(name for split in data.splits.values() for name in split.ids)


def test_split_folders_become_splits(make_folder: MakeFolder) -> None:
    data = load(make_folder())
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "validation": 4, "test": 6}
    assert data.class_names == ("Leek", "Onion")
    assert data.splits["test"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.splits["test"].ids[3] == "test/Onion/00.jpg"


def test_images_are_square_floats_between_0_and_1(make_folder: MakeFolder) -> None:
    image, label = load(make_folder()).splits["train"][5]
    assert (image.shape, image.dtype, label) == ((3, 8, 8), torch.float32, 1)
    assert image.is_contiguous()
    assert 0 <= image.min() < image.max() <= 1


def test_single_folder_is_divided_stratified_and_by_seed(make_folder: MakeFolder) -> None:
    root = make_folder(splits={"": 20})
    data = load(root, validation=0.15, test=0.25, seed=1)
    counts = {name: np.bincount(split.labels).tolist() for name, split in data.splits.items()}
    assert counts == {"train": [12, 12], "validation": [3, 3], "test": [5, 5]}
    assert len(set(all_ids(data))) == 40
    assert load(root, seed=1).content_hash == data.content_hash
    assert load(root, seed=2).content_hash != data.content_hash


def test_missing_validation_split_is_drawn_from_the_training_images_only(make_folder: MakeFolder) -> None:
    data = load(make_folder(splits={"train": 10, "test": 3}), validation=0.2)
    assert np.bincount(data.splits["validation"].labels).tolist() == [2, 2]
    assert all(name.startswith("train/") for name in data.splits["validation"].ids)
    assert all(name.startswith("test/") for name in data.splits["test"].ids)
    assert len(data.splits["train"]) == 16


def test_class_with_too_few_images_to_divide_is_named(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match=r"the class of Leek/00\.jpg: expected at least 3 examples for 3 splits, got 2"):
        load(make_folder(splits={"": 2}))


def test_copies_across_splits_are_counted(make_folder: MakeFolder) -> None:
    root = make_folder()
    shutil.copy(root / "train/Leek/00.jpg", root / "test/Leek/copy.jpg")
    shutil.copy(root / "train/Leek/02.jpg", root / "validation/Onion/copy.jpg")
    assert load(root).cross_split_duplicates == 2


def test_content_hash_does_not_depend_on_place_or_time(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    shutil.copytree(root, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert load(tmp_path / "elsewhere").content_hash == load(root).content_hash


def test_content_hash_changes_when_an_image_changes(make_folder: MakeFolder) -> None:
    root = make_folder()
    before = load(root).content_hash
    Image.new("RGB", (5, 5)).save(root / "test/Leek/01.png")
    assert load(root).content_hash != before


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_class_folders_beside_a_data_set_give_the_same_pixels_and_labels(make_folder: MakeFolder, resize: Resize) -> None:
    root = make_folder()
    own = load(root, resize=resize).splits["test"]
    beside = read_class_folders(root / "test", ("Leek", "Onion"), resolution=8, resize=resize)
    assert beside.labels.tolist() == own.labels.tolist()
    assert list(beside.hashes) == list(own.hashes)
    assert all(torch.equal(beside[place][0], own[place][0]) for place in range(len(own)))


def test_class_folders_of_some_classes_keep_the_indices_of_all(make_folder: MakeFolder) -> None:
    found = read_class_folders(make_folder(splits={"": 2}), ("Kale", "Leek", "Okra", "Onion"), resolution=8)
    assert found.labels.tolist() == [1, 1, 3, 3]
    assert [found[place][1] for place in range(4)] == [1, 1, 3, 3]


def test_loading_stops_at_a_broken_image(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "validation/Onion/01.png").write_bytes(b"\x89PNG")
    with pytest.raises(
        DataError, match=r"^dataset\.root: .*photos: expected images that can be decoded, got 1 broken: validation/Onion/01\.png"
    ):
        load(root)


def test_resize_crop_cuts_the_centre_out(make_folder: MakeFolder) -> None:
    root = make_folder()
    wide = Image.new("RGB", (24, 8))
    wide.paste((255, 255, 255), (8, 0, 16, 8))
    wide.save(root / "test/Leek/00.png")
    place = load(root).splits["test"].ids.index("test/Leek/00.png")
    assert load(root, resize="crop").splits["test"][place][0].mean() == 1
    assert load(root, resize="squash").splits["test"][place][0].mean() == pytest.approx(1 / 3, abs=0.02)


def test_images_are_decoded_only_when_asked_for(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    read = image_folder.read_image

    def spy(path: Path) -> torch.Tensor:
        decoded.append(path.name)
        return read(path)

    monkeypatch.setattr(image_folder, "read_image", spy)
    split = load(make_folder(splits={"train": 4, "validation": 1, "test": 1})).splits["validation"]
    assert decoded == []
    split[0]
    split[0]
    assert decoded == ["00.jpg", "00.jpg"]
    assert isinstance(split, FileSplit)
    assert not any(isinstance(value, torch.Tensor) for value in vars(split).values())


def test_image_that_vanished_after_loading_is_named(make_folder: MakeFolder) -> None:
    root = make_folder()
    split = load(root).splits["train"]
    (root / "train/Leek/00.jpg").unlink()
    with pytest.raises(DataError, match=r"train/Leek/00\.jpg: expected an image"):
        split[0]


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"expected validation \+ test < 1, got 0\.5 \+ 0\.5"):
        ImageFolder(root="x", validation=0.5, test=0.5)


def test_place_of_the_data_stays_out_of_digests() -> None:
    assert "root" in ImageFolder.PATH_FIELDS


def test_real_photographs_load_whole(photographs: Path) -> None:
    data = DATASETS.parse({"name": "vegetables", "root": str(photographs), "resolution": 96}).load()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 630, "validation": 89, "test": 587}
    assert len(data.class_names) == 15
    assert data.cross_split_duplicates == 0
    image, label = data.splits["test"][100]
    assert image.shape == (3, 96, 96)
    assert data.class_names[label] == data.splits["test"].ids[100].split("/")[1]


def striped(root: Path) -> FileSplit:
    """Returns a photograph of 40 x 60 pixels with stripes one pixel wide, at resolution 20."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, ::2] = 255
    Image.fromarray(pixels).save(root / "stripes.png")
    return FileSplit(root, ids=["stripes.png"], labels=np.array([0]), hashes=[""], resolution=20, resize="crop")


@pytest.mark.parametrize(("side", "given"), [(10, 20), (20, 20), (30, 30), (40, 40), (200, 40)])
def test_more_detail_is_given_up_to_what_the_file_has(side: int, given: int, tmp_path: Path) -> None:
    split = striped(tmp_path)
    image = read_detailed(take(split, [0]), 0, side)
    assert image.shape == (3, given, given)
    assert (float(image.std()) > 0.4) == (given == 40)


def test_crops_for_training_show_the_detail_of_the_file(tmp_path: Path) -> None:
    spreads = {}
    for detail in (1.0, 2.0):
        augment = Augment(crop=0.25, detail=detail, rotation=0, translation=0, scale=0)
        loader = training_batches(striped(tmp_path), augment=augment, batch_size=1, seed=0, epoch=0, workers=0)
        spreads[detail] = 0.0
        for epoch in range(30):
            loader.batch_sampler.set_epoch(epoch)
            ((x, _),) = loader
            assert x.shape == (1, 3, 20, 20)
            spreads[detail] = max(spreads[detail], float(x.std()))
    assert spreads[1.0] < 0.03
    assert spreads[2.0] > 0.1


def plain_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P6 2 2 255\n" + bytes((value * 7 + place) % 256 for place in range(12)))


@pytest.mark.parametrize(
    ("splits", "digest"),
    [
        (("train", "val", "Test"), "33f1b023369f9a00285ab83649a8513a7faebc82b4b2f7ed2187f441f779d904"),
        (("train", "test"), "912bda0507ae9b0f80c933b11c70ed9be6c14191c3b0d4ac3848a033fefc42dc"),
        (("",), "0ab102f6c318f0a935c1a5521bde779332cd6a292b229ac9569c1f8b9c9967a8"),
    ],
)
def test_content_hash_of_a_folder_is_pinned(tmp_path: Path, splits: tuple[str, ...], digest: str) -> None:
    places = [(split, name, n) for split in splits for name in ("Leek", "onion", "Été") for n in range(6)]
    for value, (split, name, n) in enumerate(places):
        plain_image(tmp_path / split / name / ("deep" if n % 2 else "") / f"{n}.ppm", value)
    assert load(tmp_path).content_hash == digest


def held_of(root: Path) -> HeldOut:
    return DATASETS.parse({"name": "image_folder", "root": str(root), "resolution": 8}).load_held()


@pytest.mark.parametrize(
    ("splits", "judged"),
    [
        ({"train": 4, "val": 2, "test": 3}, {"test"}),
        ({"train": 4, "val": 2}, {"val"}),
        ({"val": 2, "testing": 3}, {"testing"}),
        ({"val": 2}, {"val"}),
        ({"test": 2}, {"test"}),
        ({"train": 2, "eval": 2}, {"eval"}),
        ({"": 2}, {"Leek", "Onion"}),
    ],
)
def test_finished_model_is_judged_on_what_is_not_for_training(
    make_folder: MakeFolder, splits: dict[str, int], judged: set[str]
) -> None:
    held = held_of(make_folder(splits=splits))
    assert {name.split("/")[0] for name in held.split.ids} == judged
    assert len(held.split) == 2 * (3 if "3" in str(splits) else 2)
    assert (held.class_names, held.remark) == (("Leek", "Onion"), "")


def test_training_images_alone_are_refused_for_a_finished_model(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match=r"^dataset\.root: .*expected a folder test or validation .*found training images alone"):
        held_of(make_folder(splits={"Training": 9}))


def test_images_that_are_not_judged_are_not_read(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "train/Leek/00.jpg").write_bytes(b"\xff\xd8\xff")
    assert len(held_of(root).split) == 6


def test_remembered_hashes_of_other_splits_are_kept(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder()
    load(root)
    held_of(root)
    monkeypatch.setattr(checking, "check_encoded", lambda _: pytest.fail("decoded again"))
    assert len(load(root).splits["train"]) == 8


def test_other_splits_must_have_the_same_classes(make_folder: MakeFolder) -> None:
    root = make_folder(splits={"train": 2, "val": 2})
    shutil.rmtree(root / "val" / "Leek")
    with pytest.raises(DataError, match="there is no 'Leek' in validation"):
        held_of(root)


def test_skipped_files_are_in_the_data(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "test/Leek/a.heic").write_text("")
    assert load(root).skipped == {"test": 1}


def test_files_written_after_loading_are_told(make_folder: MakeFolder) -> None:
    root = make_folder()
    source = load(root).source
    assert source is not None
    assert source.changed() == []
    (root / "test/Leek/02.jpg").unlink()
    Image.new("RGB", (10, 12)).save(root / "train/Onion/01.png")
    assert source.changed() == ["train/Onion/01.png", "test/Leek/02.jpg"]


def test_fifo_and_endless_device_among_the_images_are_named_and_not_opened(make_folder: MakeFolder) -> None:
    root = make_folder()
    os.mkfifo(root / "train/Leek/pipe.png")
    (root / "test/Onion/zero.jpg").symlink_to("/dev/zero")
    with pytest.raises(
        DataError, match=r"got 2 broken: train/Leek/pipe\.png \(expected a regular file, got a FIFO\); test/Onion/z"
    ):
        load(root)
    (root / "train/Leek/pipe.png").unlink()
    (root / "test/Onion/zero.jpg").unlink()
    before = load(root)
    (root / "test/Onion/00.jpg").unlink()
    os.mkfifo(root / "test/Onion/00.jpg")
    with pytest.raises(DataError, match="got a FIFO"):
        before.splits["test"][3]


def test_names_of_classes_are_composed_and_the_hash_is_of_the_folders(make_folder: MakeFolder) -> None:
    decomposed = unicodedata.normalize("NFD", "Purée")
    data = load(make_folder(classes=("Onion", decomposed)))
    assert data.class_names == ("Onion", unicodedata.normalize("NFC", "Purée"))
    assert data.content_hash == content_hash(("Onion", decomposed), data.splits)


def test_look_tells_the_classes_and_decodes_nothing(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    spec = {"name": "image_folder", "root": str(make_folder(splits={"": 3}))}
    assert DATASETS.parse(spec).look() == ("Leek", "Onion")
    with pytest.raises(DataError, match=r"dataset\.root: the class of Leek/00\.jpg: expected at least 3 examples"):
        DATASETS.parse({**spec, "root": str(make_folder("few", splits={"": 2}))}).look()
