from typing import Literal

import numpy as np
import pytest
import torch

from harness.corruptions.base import CORRUPTIONS, Corruption
from harness.corruptions.stream import CorruptedSplit, corrupt, corrupt_batch
from harness.errors import DataError


class FourScenes:
    labels = np.array([0, 1, 0, 1])
    ids = ("w", "x", "y", "z")
    hashes = ("hw", "hx", "hy", "hz")

    def __init__(self, images):
        self.images, self.reads = images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.reads.append(index)
        return self.images[index], int(self.labels[index])


class Broken(Corruption):
    GROUP = "noise"
    name: Literal["broken"] = "broken"

    def apply(self, x, *, severity, generator):
        return {1: x[:, :-1], 2: x.double(), 3: x / 0 * 0, 4: x - 2, 5: x}[severity]


def test_split_is_corrupted_only_when_read(scenes):
    clean = FourScenes(scenes(32))
    split = CorruptedSplit(CORRUPTIONS.parse("gaussian_noise"), clean, severity=3, seed=0)
    assert (len(split), split.ids, split.hashes, clean.reads) == (4, clean.ids, clean.hashes, [])
    x, label = split[3]
    assert (label, clean.reads) == (1, [3])
    assert not torch.equal(x, clean.images[3])


def test_example_is_corrupted_alike_alone_and_in_a_batch(scenes):
    clean, noise = FourScenes(scenes(32)), CORRUPTIONS.parse("shot_noise")
    split = CorruptedSplit(noise, clean, severity=2, seed=5)
    batch = corrupt_batch(noise, clean.images[2:], clean.hashes[2:], severity=2, seed=5)
    assert torch.equal(torch.stack([split[2][0], split[3][0]]), batch)


def test_one_example_degrades_along_one_path(scenes):
    noise, x = CORRUPTIONS.parse("impulse_noise"), scenes(32)[0]
    mild, severe = (corrupt(noise, x, severity=severity, seed=0, key="a") for severity in (1, 5))
    hit = mild != x
    assert torch.equal(mild[hit], severe[hit])


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_result_of_wrong_shape_dtype_or_value_is_an_error(severity, scenes):
    with pytest.raises(DataError, match=r"corruptions\.broken, severity \d, example a: expected finite"):
        corrupt(Broken(), scenes(32)[0], severity=severity, seed=0, key="a")


def test_values_are_clipped_to_the_pixel_range(scenes):
    assert corrupt(Broken(), scenes(32)[0], severity=4, seed=0, key="a").max() == 0


def test_unsupported_severity_is_an_error(scenes):
    with pytest.raises(DataError, match="severities 1 to 5, not 6"):
        corrupt(Broken(), scenes(32)[0], severity=6, seed=0, key="a")
