import resource
import sys

import pytest
import torch

from harness import memory
from harness.memory import reused_memory

SIZE = 64 << 20


def page_faults() -> int:
    """Returns the page faults of taking, filling and freeing a large tensor ten times, once that has settled."""
    for _ in range(20):  # until a hole of the right size and alignment has come to be
        torch.ones(SIZE, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(SIZE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_large_tensors_take_no_fresh_pages_inside_the_block_only() -> None:
    outside = page_faults()
    with reused_memory():
        inside = page_faults()
    assert inside < outside / 10
    assert page_faults() > outside / 2


def test_block_changes_nothing_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with reused_memory():
        assert torch.ones(4).sum() == 4
