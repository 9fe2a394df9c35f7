import pytest
import torch
from torch import Tensor, nn

from harness.datasets.tensors import TensorSplit
from harness.evaluation.batches import CPU_BATCH, STAGE_BATCH_LIMIT, SplitBatch, forward_and_backward, stage_batch_size


class Deaf(nn.Module):
    """Logits that do not depend on the image: of a parameter, or of nothing."""

    def __init__(self, *, trainable: bool) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.ones(4), requires_grad=trainable)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), 4)


class Stepped(nn.Module):
    """Whole numbers, as a quantised network gives: no gradient passes them."""

    def forward(self, x: Tensor) -> Tensor:
        return (255 * x).long().flatten(1)[:, :4]


@pytest.mark.parametrize("network", [Deaf(trainable=True), Deaf(trainable=False), Stepped()])
def test_network_without_a_differentiable_path_is_passed_forward_only(network: nn.Module) -> None:
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    forward_and_backward(network, x)
    assert x.grad is None


def test_differentiable_network_is_passed_back_too(net: nn.Module) -> None:
    passed: list[Tensor] = []
    x = torch.rand(2, 3, 12, 12, requires_grad=True)
    x.register_hook(passed.append)
    forward_and_backward(net, x)
    assert [gradient.shape for gradient in passed] == [x.shape]


def test_rows_of_a_batch_are_copies_unless_a_mask_takes_all() -> None:
    batch = SplitBatch(torch.arange(4), torch.rand(4, 3, 2, 2), torch.arange(4))
    assert batch.at(torch.ones(4, dtype=torch.bool)) is batch
    for rows in (torch.tensor([True, False, False, True]), torch.tensor([0, 3])):
        some = batch.at(rows)
        assert some.indices.tolist() == some.y.tolist() == [0, 3]
        assert torch.equal(some.x, batch.x[[0, 3]])
    assert batch.at(torch.arange(4)).x.data_ptr() != batch.x.data_ptr()
    assert len(batch.at(torch.zeros(4, dtype=torch.bool))) == 0


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)), STAGE_BATCH_LIMIT),
        (nn.Sequential(nn.Conv2d(3, 512, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 64),
        (nn.Sequential(nn.Conv2d(3, 2048, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), CPU_BATCH),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), CPU_BATCH),
    ],
    ids=["small", "wide", "large", "keeps nothing"],
)
def test_small_networks_get_large_batches_for_the_stages_of_an_ensemble(network: nn.Module, expected: int) -> None:
    split = TensorSplit(torch.rand(2, 3, 40, 40), torch.tensor([0, 1]))
    with torch.no_grad():
        network(split[0][0][None])
    network.eval().requires_grad_(False)
    assert {stage_batch_size(network, split) for _ in range(3)} == {expected}
