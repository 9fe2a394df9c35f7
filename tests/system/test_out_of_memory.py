import gc
import logging
import weakref

import pytest
import torch

from harness.errors import HarnessError, ModelError
from harness.system.out_of_memory import is_out_of_memory, with_smaller_batches
from tests.hungry import ERRORS, error_of


@pytest.mark.parametrize("name", ERRORS)
def test_errors_about_memory_are_known_and_also_behind_others(name: str) -> None:
    error = ERRORS[name]()
    assert is_out_of_memory(error)
    outer = ModelError("model.onnx: cannot run")
    outer.__cause__ = error
    assert is_out_of_memory(outer)


def test_pytorchs_own_error_is_known() -> None:
    assert is_out_of_memory(error_of(lambda: torch.empty(2**60, dtype=torch.uint8)))


@pytest.mark.parametrize(
    "error", [RuntimeError("a shape does not fit"), ValueError("no memory of it"), HarnessError("std::bad_alloc")]
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_the_batch_is_halved_from_the_images_there_are(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def attempt(size: int) -> str:
        tried.append(size)
        if size > 5:
            raise MemoryError
        return f"done with {size}"

    with caplog.at_level(logging.WARNING, logger="harness"):
        assert with_smaller_batches(attempt, 1024, what="pgd", most=40) == "done with 5"
    assert tried == [1024, 20, 10, 5]
    assert "pgd: out of memory with batches of 40 images" in caplog.text


def test_what_a_failed_attempt_held_is_free_before_the_next_one() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def attempt(size: int) -> int:
        gc.disable()
        assert all(reference() is None for reference in held)
        large = torch.zeros(size)
        held.append(weakref.ref(large))
        if size > 2:
            raise MemoryError
        return size

    try:
        assert with_smaller_batches(attempt, 8, what="pgd", most=8) == 2
    finally:
        gc.enable()


def test_one_image_that_does_not_fit_is_one_line() -> None:
    def attempt(size: int) -> None:
        raise MemoryError("no memory")

    with pytest.raises(
        HarnessError, match=r"^pgd: out of memory with batches of 1 image, and fewer are not possible: MemoryError: no memory$"
    ):
        with_smaller_batches(attempt, 4, what="pgd", most=4)


def test_other_errors_pass_at_once() -> None:
    def attempt(size: int) -> None:
        raise ValueError("another fault")

    with pytest.raises(ValueError, match="another fault"):
        with_smaller_batches(attempt, 4, what="pgd", most=4)
