import gc
import resource
import sys
import weakref
from pathlib import Path

import pytest
import torch

from harness.system import memory
from harness.system.memory import (
    cached_parts,
    give_memory_back,
    quick_garbage_collection,
    reused_memory,
    scarce_memory,
    without_garbage_collection,
)

SIZE = 64 << 20


def page_faults() -> int:
    """Returns the page faults of taking, filling and freeing a large tensor ten times, once that has settled."""
    for _ in range(20):  # until a hole of the right size and alignment has come to be
        torch.ones(SIZE, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(SIZE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Returns the bytes of memory that the process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def resident_before_freeing() -> int:
    """Fills a large tensor and frees it; returns the bytes that the process occupied meanwhile."""
    tensor = torch.ones(SIZE, dtype=torch.uint8)
    full = resident()
    del tensor
    return full


class Linked:
    """One of two objects that hold each other."""

    def __init__(self) -> None:
        self.other: Linked | None = None


def unreachable_pair() -> "weakref.ref[Linked]":
    """Returns a reference to one of two objects that only garbage collection can free."""
    first, second = Linked(), Linked()
    first.other, second.other = second, first
    return weakref.ref(first)


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_large_tensors_take_no_fresh_pages_inside_the_block() -> None:
    with reused_memory():
        inside = page_faults()
    assert inside < SIZE / resource.getpagesize()  # ten times that many if every tensor took its own


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_freed_memory_is_kept_inside_the_block_and_given_back_at_its_end() -> None:
    with reused_memory():
        full = resident_before_freeing()
        kept = resident()
    assert kept > full - SIZE / 2
    assert resident() < full - SIZE / 2


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_where_memory_is_scarce_freed_memory_is_given_back_at_once() -> None:
    with reused_memory():
        full = resident_before_freeing()
        with scarce_memory():
            assert resident() < full - SIZE / 2
            resident_before_freeing()
            assert resident() < full - SIZE / 2
        resident_before_freeing()
        assert resident() > full - SIZE / 2, "kept again"


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_memory_that_is_kept_is_given_back_when_memory_ran_out() -> None:
    with reused_memory():
        full = resident_before_freeing()
        give_memory_back()
        assert resident() < full - SIZE / 2


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_end_of_an_inner_block_leaves_the_outer_one_open() -> None:
    with reused_memory():
        with reused_memory():
            pass
        assert page_faults() < SIZE / resource.getpagesize()


def test_block_changes_nothing_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with reused_memory():
        assert torch.ones(4).sum() == 4


@pytest.mark.parametrize(("numbers", "lengths"), [(1, [1] * 5), (12, [2, 2, 1]), (1000, [5])])
def test_parts_hold_every_row_once_and_fit_the_cache(monkeypatch: pytest.MonkeyPatch, numbers: int, lengths: list[int]) -> None:
    monkeypatch.setattr(memory, "CACHED", numbers)
    first, second = torch.arange(30.0).view(5, 6), torch.arange(5)
    parts = list(cached_parts(first, second))
    assert [len(rows) for rows, _ in parts] == lengths
    assert torch.equal(torch.cat([rows for rows, _ in parts]), first)
    assert torch.equal(torch.cat([rows for _, rows in parts]), second)


def test_empty_batch_is_one_empty_part() -> None:
    ((part,),) = cached_parts(torch.zeros(0, 3, 4, 4))
    assert part.shape == (0, 3, 4, 4)


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_not_collected_inside_the_block_and_afterwards_as_before(collects: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        with without_garbage_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()


def test_what_exists_already_is_spared_from_collections_inside_the_block_alone() -> None:
    """An unreachable pair of objects that exists before is collected after the block, one that is made in it at once."""
    before = gc.isenabled()
    gc.disable()
    try:
        old = unreachable_pair()
        with quick_garbage_collection():
            young = unreachable_pair()
            with quick_garbage_collection():
                gc.collect()
            assert (old() is None, young() is None) == (False, True)
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() == 0
        gc.collect()
        assert old() is None
    finally:
        (gc.enable if before else gc.disable)()


def test_what_a_caller_has_frozen_stays_frozen() -> None:
    gc.freeze()
    try:
        with quick_garbage_collection():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
