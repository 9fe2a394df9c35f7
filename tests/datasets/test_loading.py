import numpy as np
import pytest
import torch
from torch import Tensor

from harness.datasets.augment import Augment
from harness.datasets.loading import ShuffledBatches, evaluation_batches, expected_draws, training_batches
from harness.datasets.tensors import TensorSplit
from harness.system.seeds import seed_of

IMAGES = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SPLIT = TensorSplit(IMAGES, range(10))
AUGMENT = Augment(brightness=0.2)
STILL = Augment(flip=False, rotation=0, translation=0, scale=0)


class CountingSplit(TensorSplit):
    """Counts the images that were read and tells the threads of the process that reads."""

    reads = 0

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads += 1
        return torch.full((3, 2, 2), float(torch.get_num_threads())), index


def epoch_of(number: int, *, workers: int = 0, augment: Augment = AUGMENT, seed: int = 0) -> tuple[Tensor, Tensor]:
    loader = training_batches(SPLIT, augment=augment, batch_size=4, seed=seed, epoch=number, workers=workers)
    batches = list(loader)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def test_epoch_holds_every_example_once_in_a_new_order() -> None:
    orders = [epoch_of(number)[1].tolist() for number in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0] != list(range(10))


def test_images_and_labels_stay_together() -> None:
    x, y = epoch_of(0, augment=STILL)
    assert torch.equal(x, IMAGES[y])
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_augmentation_is_that_of_seed_epoch_and_index() -> None:
    x, y = epoch_of(3, seed=7)
    for image, index in zip(x, y.tolist(), strict=True):
        rng = np.random.default_rng(seed_of(7, "augment", 3, index))
        assert torch.allclose(image, AUGMENT.apply(IMAGES[index], rng), atol=1e-6)


def test_workers_do_not_change_the_batches() -> None:
    alone, helped = epoch_of(1), epoch_of(1, workers=2)
    assert torch.equal(alone[1], helped[1])
    assert torch.allclose(alone[0], helped[0], atol=1e-6)


def test_persisting_workers_follow_the_epoch() -> None:
    loader = training_batches(SPLIT, augment=AUGMENT, batch_size=4, seed=0, epoch=0, workers=1)
    assert isinstance(loader.batch_sampler, ShuffledBatches)
    for number in (0, 1, 0):
        loader.batch_sampler.set_epoch(number)
        x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
        assert torch.equal(y, epoch_of(number)[1])
        assert torch.allclose(x, epoch_of(number)[0], atol=1e-6)


@pytest.mark.parametrize(("count", "batch_size", "sizes"), [(10, 4, [4, 3, 3]), (9, 4, [3, 3, 3]), (8, 4, [4, 4]), (3, 4, [3])])
def test_batches_are_evenly_filled(count: int, batch_size: int, sizes: list[int]) -> None:
    batches = ShuffledBatches(count, batch_size, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == sizes
    assert len(batches) == len(sizes)


UNEVEN = np.repeat([0, 1, 2], [4, 16, 64])


@pytest.mark.parametrize(("class_balance", "shares"), [(0, [4, 16, 64]), (0.5, [12, 24, 48]), (1, [28, 28, 28])])
def test_rare_classes_are_drawn_oftener(class_balance: float, shares: list[float]) -> None:
    expected = expected_draws(UNEVEN, class_balance)
    assert np.bincount(UNEVEN, weights=expected) == pytest.approx(shares)


def test_an_epoch_draws_each_example_about_as_often_as_expected() -> None:
    expected = expected_draws(UNEVEN, 0.7)
    batches = ShuffledBatches(len(UNEVEN), 8, seed=0, epoch=0, expected=expected)
    sums = np.zeros(len(UNEVEN))
    for epoch in range(200):
        batches.set_epoch(epoch)
        drawn = [draw for batch in batches for draw in batch]
        counts = np.bincount([index for _, index, _ in drawn], minlength=len(UNEVEN))
        assert counts.sum() == len(UNEVEN)
        assert len(set(drawn)) == len(drawn)
        assert (np.abs(counts - expected) < 1).all()
        sums += counts
    assert sums / 200 == pytest.approx(expected, abs=0.12)


def test_an_image_drawn_again_is_augmented_anew() -> None:
    split = TensorSplit(IMAGES, [0] + [1] * 9)
    loader = training_batches(split, augment=AUGMENT, batch_size=4, seed=0, epoch=0, workers=0, class_balance=1)
    x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    rare = x[y == 0]
    assert len(rare) == 5
    assert len({tuple(image.flatten().tolist()) for image in rare}) == 5


def test_evaluation_keeps_the_order_and_the_last_batch() -> None:
    batches = list(evaluation_batches(SPLIT, batch_size=4, workers=0))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([x for x, _ in batches]), IMAGES)
    assert torch.cat([y for _, y in batches]).tolist() == list(range(10))


def test_global_random_state_is_not_used() -> None:
    before = torch.random.get_rng_state()
    epoch_of(0)
    list(evaluation_batches(SPLIT, batch_size=4, workers=0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_only_the_batches_asked_for_are_read() -> None:
    split = CountingSplit(IMAGES, range(10))
    batches = iter(evaluation_batches(split, batch_size=2, workers=0))
    next(batches)
    next(batches)
    assert split.reads == 4


def test_workers_compute_with_one_thread() -> None:
    split = CountingSplit(IMAGES, range(10))
    x, _ = next(iter(evaluation_batches(split, batch_size=2, workers=1)))
    assert x.unique().tolist() == [1.0]
