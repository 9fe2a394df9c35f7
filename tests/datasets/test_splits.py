from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.splits import Joined, apportion, stratified_split, subset, take
from harness.datasets.tensors import TensorSplit
from harness.errors import DataError

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def split_with(sizes: Sequence[int], seed: int = 0) -> TensorSplit:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = torch.arange(len(labels), dtype=torch.float32).div(max(len(labels), 1)).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return TensorSplit(images, labels)


def test_take_gives_the_examples_in_the_given_order() -> None:
    split = split_with([3, 2])
    taken = take(split, [4, 0])
    assert list(taken.ids) == ["0004", "0000"]
    assert list(taken.hashes) == [split.hashes[4], split.hashes[0]]
    assert taken.labels.tolist() == [split.labels[4], split.labels[0]]
    assert torch.equal(taken[0][0], split[4][0])


def test_take_of_a_taken_split_looks_at_the_original_one() -> None:
    split = split_with([3, 2])
    twice = take(take(split, [4, 2, 0]), [2, 1])
    assert list(twice.ids) == ["0000", "0002"]
    assert torch.equal(twice[1][0], split[2][0])


@given(SIZES, st.data())
def test_subset_has_exactly_the_limit_and_every_class_it_can(sizes: list[int], data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, sum(sizes)))
    chosen = subset(split_with(sizes), limit, seed=3)
    counts = np.bincount(chosen.labels, minlength=len(sizes))
    assert len(chosen) == limit
    assert len(set(chosen.ids)) == limit
    assert (counts <= sizes).all()
    if limit >= len(sizes):
        assert counts.min() >= 1


@given(SIZES, st.data())
def test_apportioned_seats_are_the_exact_quota_rounded_where_no_bound_binds(sizes: list[int], data: st.DataObject) -> None:
    array = np.array(sizes)
    total = data.draw(st.integers(1, sum(sizes)))
    seats = apportion(array, total, array)
    exact = array * total / array.sum()
    assert seats.sum() == total
    if exact.min() >= 1:
        assert (np.abs(seats - exact) < 1).all()


def test_subset_follows_the_proportions_by_largest_remainder() -> None:
    chosen = subset(split_with([50, 30, 20]), 11, seed=0)  # exact: 5.5, 3.3, 2.2
    assert np.bincount(chosen.labels).tolist() == [6, 3, 2]


def test_subset_is_the_same_for_the_same_seed_and_another_for_another_seed() -> None:
    split = split_with([40, 40])
    assert subset(split, 10, seed=1).ids == subset(split, 10, seed=1).ids
    assert subset(split, 10, seed=1).ids != subset(split, 10, seed=2).ids


def test_subset_keeps_the_order_of_the_split() -> None:
    ids = list(subset(split_with([40, 40]), 25, seed=1).ids)
    assert ids == sorted(ids)


@given(st.integers(2, 40))
def test_smaller_subset_of_two_equal_classes_lies_within_the_larger_one(limit: int) -> None:
    split = split_with([40, 40])
    assert set(subset(split, limit, seed=1).ids) <= set(subset(split, limit + 2, seed=1).ids)


@pytest.mark.parametrize("limit", [None, 5, 6])
def test_subset_without_a_binding_limit_is_the_split(limit: int | None) -> None:
    split = split_with([3, 2])
    assert subset(split, limit, seed=0) is split


def test_subset_refuses_a_limit_below_one() -> None:
    with pytest.raises(DataError, match="limit: expected a whole number >= 1, got 0"):
        subset(split_with([3, 2]), 0, seed=0)


@given(st.lists(st.integers(3, 40), min_size=1, max_size=6), st.floats(0.01, 0.45), st.floats(0.01, 0.45))
def test_parts_share_nothing_lose_nothing_and_hold_every_class(sizes: list[int], first: float, second: float) -> None:
    split = split_with(sizes)
    parts = stratified_split(split, (first, second), seed=5)
    assert len(parts) == 3
    assert sorted(name for part in parts for name in part.ids) == list(split.ids)
    for part in parts:
        assert set(part.labels) == set(range(len(sizes)))


def test_parts_have_the_asked_sizes_in_every_class() -> None:
    validation, test, train = stratified_split(split_with([100, 40]), (0.15, 0.25), seed=0)
    assert [np.bincount(part.labels).tolist() for part in (validation, test, train)] == [[15, 6], [25, 10], [60, 24]]


def test_division_depends_on_the_seed_only() -> None:
    first, again, other = (stratified_split(split_with([30, 30]), (0.5,), seed=seed)[0].ids for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_class_too_small_to_divide_is_named_by_an_example() -> None:
    with pytest.raises(DataError, match="expected at least 3 examples for 3 splits, got 2"):
        stratified_split(split_with([9, 2]), (0.2, 0.2), seed=0)


def test_joined_splits_give_the_examples_of_both_in_their_order() -> None:
    split = split_with([3, 3])
    first, second = take(split, [0, 1]), take(split, [4, 2, 3])
    joined = Joined(first, second)
    assert len(joined) == 5
    assert joined.labels.tolist() == [*first.labels, *second.labels]
    assert joined.ids == [*first.ids, *second.ids]
    assert joined.hashes == [*first.hashes, *second.hashes]
    assert all(torch.equal(joined[at][0], split[index][0]) for at, index in enumerate([0, 1, 4, 2, 3]))
    assert torch.equal(joined[-1][0], split[3][0])
    with pytest.raises(IndexError):
        joined[5]
