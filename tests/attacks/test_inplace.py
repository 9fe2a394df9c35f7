import pytest
import torch
import torchattacks

from harness.attacks.collectors import FirstAdversarial
from harness.attacks.criterion import Criterion
from harness.attacks.torchattacks.inplace import InPlacePGD
from harness.system import memory
from harness.system.seeds import global_seed
from tests.attacks.nets import CLASSES, conv_net, images, threat


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("at_once", [1, 4, 6])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_are_the_librarys_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, *, random_start: bool, targeted: bool, at_once: int, layout: torch.memory_format
) -> None:
    net, x = conv_net(), images(6, low=0.0, high=1.0).contiguous(memory_format=layout)
    monkeypatch.setattr(memory, "CACHED", at_once * x[0].numel())
    y = torch.arange(6) % CLASSES

    def attacked(kind: type[torchattacks.PGD]) -> torch.Tensor:
        attack = kind(net, eps=8 / 255, alpha=3 / 255, steps=5, random_start=random_start)
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        with global_seed(7):
            return attack(x, y)

    assert torch.equal(attacked(InPlacePGD), attacked(torchattacks.PGD))


def test_an_adversarial_example_takes_no_more_steps_and_the_others_take_the_same_ones() -> None:
    """The library never asks which examples are active: it moves a new adversarial once more, and passes all to the end."""
    net, x = conv_net().requires_grad_(False), images(24)
    y = net(x).argmax(dim=1)

    def attacked(kind: type[torchattacks.PGD]) -> tuple[FirstAdversarial, torch.Tensor, list[int]]:
        watched = FirstAdversarial(net, x, Criterion(y, targeted=False), threat_model=threat("4/255"), reference=net)
        asked: list[int] = []
        watched.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
        with global_seed(7):
            return watched, kind(watched, eps=4 / 255, alpha=1 / 255, steps=8)(x, y), asked

    (ours, x_adv, asked), (theirs, wanted, _) = attacked(InPlacePGD), attacked(torchattacks.PGD)
    assert len(set(asked)) > 2
    assert not ours.success.all()
    assert torch.equal(ours.success, theirs.success)
    assert torch.equal(ours.best[ours.success], theirs.best[ours.success])
    assert (ours.forwards, ours.backwards) == (theirs.forwards, theirs.backwards)
    assert torch.equal(ours.gradients, theirs.gradients)
    assert torch.equal(x_adv[~ours.success], wanted[~ours.success])
    assert torch.equal(x_adv[ours.success], ours.best[ours.success])


def test_originals_are_left_alone() -> None:
    x = images(4, low=0.0, high=1.0)
    kept = x.clone()
    InPlacePGD(conv_net(), steps=2)(x, torch.zeros(4, dtype=torch.long))
    assert torch.equal(x, kept)
