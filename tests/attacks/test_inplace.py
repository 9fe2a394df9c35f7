import pytest
import torch
import torchattacks

from harness.attacks.torchattacks import inplace
from harness.attacks.torchattacks.inplace import InPlacePGD
from harness.seeds import global_seed
from tests.attacks.nets import CLASSES, conv_net, images


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("at_once", [1, 4, 6])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_are_the_librarys_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, *, random_start: bool, targeted: bool, at_once: int, layout: torch.memory_format
) -> None:
    net, x = conv_net(), images(6, low=0.0, high=1.0).contiguous(memory_format=layout)
    monkeypatch.setattr(inplace, "CACHED", at_once * x[0].numel())
    y = torch.arange(6) % CLASSES

    def attacked(kind: type[torchattacks.PGD]) -> torch.Tensor:
        attack = kind(net, eps=8 / 255, alpha=3 / 255, steps=5, random_start=random_start)
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        with global_seed(7):
            return attack(x, y)

    assert torch.equal(attacked(InPlacePGD), attacked(torchattacks.PGD))


def test_originals_are_left_alone() -> None:
    x = images(4, low=0.0, high=1.0)
    kept = x.clone()
    InPlacePGD(conv_net(), steps=2)(x, torch.zeros(4, dtype=torch.long))
    assert torch.equal(x, kept)
