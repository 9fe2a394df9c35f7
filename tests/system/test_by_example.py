from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.system.by_example import DrawsByExample, go_on_with_copies, is_by_example, keys_of, usual_draws

SHAPE = (3, 2, 2)


def _mode(hashes: str, rows: list[int] | None = None) -> DrawsByExample:
    order = [torch.tensor(range(len(hashes)) if rows is None else rows)]
    x = torch.arange(len(hashes)).float().view(-1, 1, 1, 1).expand(-1, *SHAPE)
    return DrawsByExample(keys_of(7, hashes), x, rows=lambda: order[0], announce=lambda rows: order.__setitem__(0, rows))


def test_each_row_is_drawn_from_a_stream_of_its_own() -> None:
    with _mode("abcd"):
        all_rows = [torch.rand(4, *SHAPE), torch.randn((4, *SHAPE)), torch.empty(4, *SHAPE).uniform_(-2, 3)]
    with _mode("db"):
        two = [torch.rand(2, *SHAPE), torch.randn((2, *SHAPE)), torch.empty(2, *SHAPE).uniform_(-2, 3)]
    for many, few in zip(all_rows, two, strict=True):
        torch.testing.assert_close(few, many[[3, 1]], rtol=0, atol=0)
    assert 0 <= all_rows[0].min() < all_rows[0].max() < 1
    assert -2 <= all_rows[2].min() < -1
    assert 2 < all_rows[2].max() < 3


def test_the_numbers_are_uniform_and_gaussian() -> None:
    with _mode("ab"):
        uniform, normal = torch.rand(2, 3, 100, 100), torch.empty(2, 3, 100, 100).normal_(1, 2)
    assert (float(uniform.mean()), float(uniform.std())) == pytest.approx((0.5, 12**-0.5), abs=0.01)
    assert (float(normal.mean()), float(normal.std())) == pytest.approx((1, 2), abs=0.05)
    assert not np.allclose(uniform[0], uniform[1])


def test_draws_follow_the_examples_that_an_attack_goes_on_with() -> None:
    with _mode("abc"):
        torch.rand(3, *SHAPE)
        both = torch.rand(3, *SHAPE)
    with _mode("abc"):
        torch.rand(3, *SHAPE)
        go_on_with_copies(torch.tensor([2.0, 0.0]).view(-1, 1, 1, 1).expand(-1, *SHAPE))
        assert torch.equal(torch.rand(2, *SHAPE), both[[2, 0]])


def test_other_draws_stay_those_of_the_generators() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        usual = torch.rand(1), torch.rand(5, 2), torch.randint(10, (3,))
        torch.manual_seed(0)
        with _mode("ab"):
            found = torch.rand(1), torch.rand(5, 2), torch.randint(10, (3,))
    assert all(torch.equal(*pair) for pair in zip(found, usual, strict=True))


def test_a_network_draws_as_it_always_does() -> None:
    with torch.random.fork_rng(), _mode("ab"):
        torch.manual_seed(0)
        with usual_draws():
            assert not is_by_example()
            drawn = torch.rand(2, *SHAPE)
        assert is_by_example()
        torch.manual_seed(0)
        with usual_draws():
            assert torch.equal(torch.rand(2, *SHAPE), drawn)
    assert not is_by_example()


@pytest.mark.parametrize(
    "draw", [lambda: torch.rand(3, *SHAPE), lambda: torch.zeros(2, *SHAPE).bernoulli_(), lambda: torch.randint(2, (2, *SHAPE))]
)
def test_a_draw_for_the_batch_that_has_no_streams_is_refused(draw: Callable[[], Tensor]) -> None:
    with _mode("ab"), pytest.raises(HarnessError, match="by_example"):
        draw()


def test_the_mean_of_a_loss_over_a_batch_is_a_sum() -> None:
    logits, y = torch.tensor([[1.0, 2.0], [3.0, 1.0]]), torch.tensor([0, 1])
    with _mode("ab"):
        found = torch.nn.CrossEntropyLoss()(logits, y)
    assert found == torch.nn.functional.cross_entropy(logits, y, reduction="sum")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_the_sum_of_a_single_image_is_that_among_others_with_several_threads() -> None:
    x = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    for summed in (
        lambda it: it.sum(dim=(1, 2, 3), keepdim=True),
        lambda it: torch.mean(it, (1, 2, 3)),
        lambda it: it.flatten(1).sum(1),
    ):
        with _mode("abc"):
            assert torch.equal(summed(x[1:2]), summed(x)[1:2])


def test_sums_over_a_batch_of_one_stay_as_they_are() -> None:
    x = torch.ones(1, 3)
    with _mode("a"):
        assert (x.sum(), x.sum(dim=0).tolist(), x.mean(0).tolist(), x.sum(dim=-1).tolist()) == (3, [1] * 3, [1] * 3, [3])
