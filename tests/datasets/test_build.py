import numpy as np
import pytest
import torch

from harness.datasets.build import content_hash, cross_split_duplicates, image_data
from harness.datasets.tensors import TensorSplit
from harness.errors import DataError
from harness.images import ImageSplit


def splits_of(seed: int = 0) -> dict[str, ImageSplit]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: TensorSplit(torch.rand(4, 3, 2, 2, generator=generator), [0, 1, 0, 1], ids=[f"{name}/{k}" for k in range(4)])
        for name in ("train", "validation", "test")
    }


def with_images_of(splits: dict[str, ImageSplit], target: str, source: str, count: int) -> dict[str, ImageSplit]:
    images = torch.stack([splits[source if k < count else target][k][0] for k in range(4)])
    return {**splits, target: TensorSplit(images, splits[target].labels, ids=splits[target].ids)}


def test_splits_without_common_images_have_no_duplicates() -> None:
    assert cross_split_duplicates(splits_of()) == 0


@pytest.mark.parametrize(("target", "source"), [("validation", "train"), ("test", "train"), ("test", "validation")])
def test_images_that_occur_in_an_earlier_split_are_counted(target: str, source: str) -> None:
    assert cross_split_duplicates(with_images_of(splits_of(), target, source, count=3)) == 3


def test_image_in_all_three_splits_counts_twice() -> None:
    splits = with_images_of(with_images_of(splits_of(), "validation", "train", 1), "test", "train", 1)
    assert cross_split_duplicates(splits) == 2


def test_duplicates_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    data = image_data("copies", ["a", "b"], with_images_of(splits_of(), "test", "train", 2))
    assert data.cross_split_duplicates == 2
    assert "copies: 2 validation and test images also occur in an earlier split" in caplog.text


def test_content_hash_does_not_depend_on_the_order_of_the_mapping() -> None:
    splits = splits_of()
    assert content_hash(["a", "b"], splits) == content_hash(["a", "b"], dict(reversed(splits.items())))


def test_content_hash_changes_with_a_pixel_a_label_a_name_and_a_class() -> None:
    splits = splits_of()
    test = splits["test"]
    images = torch.stack([test[k][0] for k in range(4)])
    touched = images.clone()
    touched[0, 0, 0, 0] = 1 - touched[0, 0, 0, 0]
    others = (
        TensorSplit(touched, test.labels, ids=test.ids),
        TensorSplit(images, 1 - test.labels, ids=test.ids),
        TensorSplit(images, test.labels, ids=["x", *test.ids[1:]]),
    )
    found = {content_hash(["a", "b"], splits), content_hash(["a", "c"], splits)}
    found |= {content_hash(["a", "b"], {**splits, "test": other}) for other in others}
    assert len(found) == 5


def test_data_set_keeps_what_it_is_made_of() -> None:
    splits = splits_of()
    data = image_data("mine", ["a", "b"], splits)
    assert (data.name, data.class_names) == ("mine", ("a", "b"))
    assert data.content_hash == content_hash(["a", "b"], splits)
    assert data.splits["train"] is splits["train"]
    assert np.array_equal(data.splits["test"].labels, [0, 1, 0, 1])


def test_label_without_a_class_name_is_refused() -> None:
    with pytest.raises(DataError, match="mine: expected labels from 0 to 0, got 1"):
        image_data("mine", ["a"], splits_of())
