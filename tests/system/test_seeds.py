import random

import numpy as np
import pytest
import torch

from harness.system.seeds import global_seed


def draws() -> tuple[float, float, float]:
    """Returns a number of each of the global generators."""
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: S311 - what is seeded


def test_global_generators_are_seeded_inside_and_as_before_afterwards() -> None:
    with global_seed(1):
        expected = draws()
        with global_seed(7):
            inner = draws()
        following = draws()
    with global_seed(1):
        assert draws() == expected
        assert draws() == following
    with global_seed(7):
        assert draws() == inner
    assert len({*expected, *inner, *following}) == 9


def test_generators_are_put_back_where_the_block_fails() -> None:
    with global_seed(1):
        first = draws()
    with global_seed(1):
        with pytest.raises(ValueError, match="inside"), global_seed(7):
            raise ValueError("inside")
        assert draws() == first
