import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from harness.datasets import digits
from harness.datasets.base import DATASETS
from harness.datasets.decoding import resized
from harness.datasets.digits import Digits, read_digits
from harness.datasets.tensors import TensorSplit


def test_all_digits_are_there_stratified_and_disjoint() -> None:
    data = DATASETS.parse("digits").load()
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sum(sizes.values()) == 1797
    assert sizes == {"train": 1078, "validation": 270, "test": 449}
    assert len({name for split in data.splits.values() for name in split.ids}) == 1797
    assert data.class_names == tuple("0123456789")
    for split in data.splits.values():
        shares = np.bincount(split.labels, minlength=10) / len(split)
        assert np.abs(shares - 0.1).max() < 0.01


def test_digit_is_the_source_image_upsampled_to_rgb() -> None:
    split = Digits().load().splits["test"]
    image, label = split[7]
    number = int(split.ids[7].removeprefix("digits/"))
    source = load_digits()
    grey = torch.from_numpy(source.images[number]).float() / 16
    expected = interpolate(grey[None, None], (32, 32), mode="bilinear", antialias=True)[0]
    assert torch.allclose(image, expected.expand(3, 32, 32), atol=1e-6)
    assert label == source.target[number]


def test_seed_and_shares_decide_the_division() -> None:
    first, again, other = (Digits(seed=seed).load() for seed in (0, 0, 1))
    assert first.content_hash == again.content_hash
    assert first.content_hash != other.content_hash
    assert len(Digits(validation=0.1, test=0.5).load().splits["test"]) == 898


def test_resolution_is_a_field() -> None:
    assert Digits(resolution=8).load().splits["train"][0][0].shape == (3, 8, 8)


def test_digits_are_those_of_scikit_learn_wherever_it_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    source = load_digits()
    images, labels = read_digits()
    assert images.dtype == np.float32
    assert np.array_equal(images, source.images.astype(np.float32) / np.float32(16))
    assert np.array_equal(labels, source.target)
    monkeypatch.setattr(digits, "FILE", "elsewhere.csv.gz")
    for found, expected in zip(read_digits(), (images, labels), strict=True):
        assert np.array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_content_hash_of_the_digits_is_that_of_earlier_versions() -> None:
    data = Digits().load()
    earlier = TensorSplit(
        torch.from_numpy(load_digits().images).float().div(16)[:, None].expand(-1, 3, -1, -1), load_digits().target
    )
    number = int(data.splits["test"].ids[7].removeprefix("digits/"))
    assert data.splits["test"].hashes[7] == earlier.hashes[number]
    assert torch.equal(data.splits["test"].split[number][0], resized(earlier.images[number], 32))
