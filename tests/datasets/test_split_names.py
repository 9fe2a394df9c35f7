import time

import pytest

from harness.datasets.split_names import common_folders, split_named, splits_named


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            "train",
            ["train", "Training", "TRAIN_SET", "training_set", "seg_train", "train-data", "TrainImages", "train2017", "trn"],
        ),
        ("validation", ["val", "valid", "Validation", "dev", "val_set", "validation data", "development", "VALID_images"]),
        ("test", ["test", "Testing", "test_set", "seg_test", "testset", "Test Photos"]),
    ],
)
def test_common_names_of_splits_are_known(split: str, names: list[str]) -> None:
    assert {name: split_named(name) for name in names} == dict.fromkeys(names, split)


@pytest.mark.parametrize("name", ["Leek", "training shoes", "invalid", "contest", "tests of time", "trainer", "data", "", "2017"])
def test_names_of_classes_are_no_splits(name: str) -> None:
    assert split_named(name) is None


def test_eval_is_the_test_split_or_the_validation_split_beside_one() -> None:
    assert splits_named(["train", "eval"]) == {"train": "train", "eval": "test"}
    assert splits_named(["train", "Evaluation_set", "test"])["Evaluation_set"] == "validation"
    assert splits_named(["val", "eval"]) == {"val": "validation", "eval": "test"}


def test_long_name_is_judged_at_once() -> None:
    started = time.perf_counter()
    assert split_named("dataset" * 36) is None
    assert split_named("imagesfilesimgs" * 17 + "x") is None
    assert time.perf_counter() - started < 1


def test_folders_that_all_classes_hold_are_found_unless_images_lie_beside_them() -> None:
    lots = {"lot1": ["a/0.png", "b/0.png", "c/0.png"], "lot2": ["a/1.png", "b/1.png"]}
    assert common_folders(lots) == ("a", "b")
    assert common_folders({**lots, "lot2": ["a/1.png", "b/1.png", "2.png"]}) == ()
    assert common_folders({"x": ["images/0.png"], "y": ["images/1.png"]}) == ()
    assert common_folders(
        {"amazon": ["images/mug/0.png", "images/bike/0.png"], "dslr": ["images/mug/1.png", "images/bike/1.png"]}
    )
