import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from harness.errors import HarnessError
from harness.training.processes import OneProcess, Processes, Share, check_devices


class Several(Processes):
    """The given process of three; all three have the same values."""

    def __init__(self, rank: int) -> None:
        self.rank, self.count, self.device = rank, 3, torch.device("cpu")

    def total(self, tensor: Tensor) -> Tensor:
        return 3 * tensor


def loader(examples: int = 10) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(range(examples), batch_size=4)


def test_shares_of_a_batch_add_up_to_it() -> None:
    shares = [[batch.tolist() for batch in Several(rank).share(loader(8), in_step=True)] for rank in range(3)]
    assert shares == [[[0, 3], [4, 7]], [[1], [5]], [[2], [6]]]


def test_every_process_trains_on_the_whole_of_a_batch_with_too_few_examples() -> None:
    assert [list(Several(rank).share(loader(10), in_step=True))[-1].tolist() for rank in range(3)] == [[8, 9]] * 3


@pytest.mark.parametrize("examples", [8, 9, 10, 11])
def test_every_example_is_scored_once(examples: int) -> None:
    shares = [batch.tolist() for rank in range(3) for batch in Several(rank).share(loader(examples), in_step=False)]
    assert all(shares)
    assert sorted(example for share in shares for example in share) == list(range(examples))


def test_number_of_batches_stays() -> None:
    whole = BatchSampler(SequentialSampler(range(10)), 4, drop_last=False)
    assert len(Share(whole, 1, 3, in_step=True)) == len(whole) == 3


def test_one_process_takes_everything() -> None:
    given = loader()
    alone = OneProcess(torch.device("cpu"))
    assert alone.share(given, in_step=True) is given
    assert alone.total(torch.tensor(5.0)) == 5


def test_gradients_are_added_and_statistics_averaged() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model(torch.randn(8, 2)).square().sum().backward()
    gradients = [weight.grad.clone() for weight in model.parameters()]
    mean, count = model[1].running_mean.clone(), model[1].num_batches_tracked.clone()
    Several(0).add_gradients(model)
    Several(0).average_buffers(model)
    for weight, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(weight.grad, 3 * gradient)
    torch.testing.assert_close(model[1].running_mean, mean)
    assert torch.equal(model[1].num_batches_tracked, count)


def test_constants_stay_as_they_are() -> None:
    class Rounding(Several):
        def total(self, tensor: Tensor) -> Tensor:
            return 3 * tensor + 1e-3

    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.register_buffer("mean", torch.tensor([0.485]))
    Rounding(0).average_buffers(model)
    assert torch.equal(model.mean, torch.tensor([0.485]))
    assert not torch.equal(model[1].running_mean, torch.zeros(2))


@pytest.mark.parametrize(
    ("name", "message"), [("cuda", "expected at most 1, .* got 2"), ("cuda:0", "expected cuda, .* got cuda:0")]
)
def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_devices(1, torch.device(name))
    check_devices(2, torch.device("cpu"))
    with pytest.raises(HarnessError, match=message):
        check_devices(2, torch.device(name))
