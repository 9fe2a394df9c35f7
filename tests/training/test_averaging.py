import torch
from torch import nn

from harness.training.averaging import Average


def test_average_follows_slowly_and_its_decay_grows() -> None:
    live = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(live.weight)
    average = Average(live, decay=0.5)
    nn.init.ones_(live.weight)
    expected, found = 0.0, []
    for step in range(12):
        average.update(live)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay)
        found.append((average.network.weight.item(), expected))
    assert all(abs(one - other) < 1e-6 for one, other in found)


def test_statistics_are_averaged_and_counts_copied() -> None:
    live = nn.BatchNorm2d(2)
    average = Average(live, decay=0.9)
    live.train()(torch.randn(8, 2, 4, 4) + 3)
    average.update(live)
    torch.testing.assert_close(average.network.running_mean, 0.9 * live.running_mean)
    assert int(average.network.num_batches_tracked) == 1


def test_live_network_is_not_touched() -> None:
    live = nn.Linear(3, 2)
    before = live.weight.clone()
    average = Average(live, decay=0.9)
    average.update(live)
    assert torch.equal(live.weight, before)
    assert live.weight.requires_grad
    assert not average.network.weight.requires_grad
