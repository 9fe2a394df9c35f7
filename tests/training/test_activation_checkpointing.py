"""Activations that are computed again: the same updates, with less memory."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from harness.training.activation_checkpointing import blocks_of, checkpointed
from tests.training.cases import classifier, recipe, same_state, trained


class Block(nn.Module):
    def __init__(self, momentum: float | None) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(8, momentum=momentum)
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), norm, nn.SiLU(), nn.Dropout(0.2), nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.inner(x)
        return x + inner


def blocky_convnet(momentum: float | None = 0.1) -> nn.Module:
    stages = nn.Sequential(nn.Sequential(Block(momentum), Block(momentum)), Block(momentum))
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        stages,
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def kept_bytes(network: Callable[[Tensor], Tensor], x: Tensor) -> int:
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(x).sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("standard", {"ema": 0.9}),
        ("standard", {"freeze_batchnorm": True}),
        ("standard", {"micro_batch": 8}),
        ("pgd", {"awp": 0.005, "distil": 0.5}),
        ("trades", {}),
        ("fast", {}),
    ],
)
def test_a_training_is_the_same_bit_for_bit(name: str, fields: dict[str, object], momentum: float | None) -> None:
    plain, other = classifier(blocky_convnet(momentum)), classifier(blocky_convnet(momentum))
    expected = trained(plain, recipe(name, epochs=2, **fields))
    found = trained(other, recipe(name, epochs=2, activation_checkpointing=True, **fields))
    assert same_state(plain, other)
    for row, wanted in zip(found.history, expected.history, strict=True):
        unlike = {key for key in wanted if row[key] != wanted[key]}
        assert unlike <= {"seconds", "attack_share"}
    assert all("forward" not in vars(module) for module in other.modules())


@pytest.mark.parametrize(
    ("arch", "count"),
    [
        ("efficientnet_b0", 16),
        ("resnet18", 8),
        ("convnext_atto", 12),
        ("swin_tiny_patch4_window7_224", 12),
        ("vit_tiny_patch16_224", 12),
    ],
)
def test_blocks_are_those_of_the_architecture(arch: str, count: int) -> None:
    assert len(blocks_of(timm.create_model(arch))) == count


def test_a_sequence_of_layers_has_no_blocks() -> None:
    assert blocks_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())) == []


def test_less_is_kept_for_the_backward_pass() -> None:
    model = timm.create_model("efficientnet_b0").train()
    x = torch.rand(2, 3, 64, 64)
    assert kept_bytes(checkpointed(model, model), x) < kept_bytes(model, x) / 3


def test_a_forward_method_of_a_user_stays() -> None:
    model = blocky_convnet()
    (block, *_) = blocks_of(model)
    own = block.forward
    block.forward = lambda x: 2 * own(x)  # type: ignore[method-assign]
    replaced = block.forward
    checkpointed(model, model)(torch.rand(2, 3, 8, 8)).sum().backward()
    assert block.forward is replaced


def test_it_is_refused_with_compiled_networks() -> None:
    with pytest.raises(ValueError, match="activation_checkpointing: expected false with compile: true"):
        recipe(compile=True, activation_checkpointing=True)
