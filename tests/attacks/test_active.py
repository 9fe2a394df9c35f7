"""Square and FAB with loops of our own: what the library finds, at fewer passes and without its costliest arithmetic."""

import gc

import pytest
import torch
import torchattacks
from torch import Tensor, nn
from torchattacks.attacks.fab import projection_linf

from harness.attacks.collectors import FirstAdversarial
from harness.attacks.criterion import Criterion
from harness.attacks.frame import search_ball
from harness.attacks.results import AttackInput
from harness.attacks.torchattacks.boundary import SortFreeFAB, onto_hyperplane
from harness.attacks.torchattacks.square import TieAwareSquare
from tests.attacks.nets import attack_of, conv_net, images, threat

ROUNDING = 1e-5


class LibrarySquare(torchattacks.Square):  # type: ignore[misc]  # the library has no types
    """The library's search with our margins."""

    margin_and_loss = TieAwareSquare.margin_and_loss


@pytest.mark.parametrize("loss", ["margin", "ce"])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_images_of_square_are_the_librarys_bit_for_bit(norm: str, loss: str) -> None:
    net, x = conv_net().requires_grad_(False), images(24, low=0.0, high=1.0)
    y, eps = net(x).argmax(dim=1), {"Linf": 8 / 255, "L2": 0.5}[norm]
    y[:3] = (y[:3] + 1) % 3
    ours, theirs = (kind(net, norm=norm, eps=eps, n_queries=120, loss=loss)(x, y) for kind in (TieAwareSquare, LibrarySquare))
    assert 0 < int((net(theirs).argmax(dim=1) != y)[3:].sum()) < 21
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("attack", ["square", "fab"])
def test_an_adversarial_example_leaves_the_batch_for_good(attack: str) -> None:
    net, x = conv_net().requires_grad_(False), images(24)
    y, asked = net(x).argmax(dim=1), list[tuple[int, int]]()
    watched = FirstAdversarial(net, x, Criterion(y, targeted=False), threat_model=threat("4/255"), reference=net)
    watched.register_forward_pre_hook(lambda _, inputs: asked.append((len(inputs[0]), int((~watched.success).sum()))))
    if attack == "square":
        TieAwareSquare(watched, eps=4 / 255, n_queries=100).attack_single_run(x, y)
    else:
        library = SortFreeFAB(watched, eps=4 / 255, steps=20, multi_targeted=True)
        library.target_class = 2
        library.attack_single_run_targeted(x, y)
    assert 0 < int(watched.success.sum()) < len(x)
    assert all(given == active for given, active in asked)
    assert watched.origins.last[1].all()


def _planes(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns points, some on the box, normals, some of 0, and offsets; a few planes do not meet the box."""
    generator = torch.Generator().manual_seed(seed)
    points = (torch.rand(40, 60, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    slope = torch.randn(40, 60, generator=generator) * (torch.rand(40, 60, generator=generator) > 0.2)
    spread = torch.linspace(0, 0.6, 40) * torch.randn(40, generator=generator).sign()
    return points, slope, (slope * points).sum(dim=1) + spread * slope.abs().sum(dim=1)


@pytest.mark.parametrize("seed", range(5))
def test_projection_is_the_librarys(seed: int) -> None:
    points, slope, offset = _planes(seed)
    change = onto_hyperplane(points, slope, offset)
    assert torch.allclose(change, projection_linf(points, slope, offset), atol=ROUNDING)
    on_plane = ((slope * (points + change)).sum(dim=1) - offset).abs() < 1e-4
    assert 5 < int(on_plane.sum()) < 40
    assert float((points + change).min()) >= -ROUNDING
    assert float((points + change).max()) <= 1 + ROUNDING


def test_projection_of_a_point_without_slope_stays() -> None:
    nothing = torch.zeros(2, 5)
    assert torch.equal(onto_hyperplane(torch.full((2, 5), 0.5), nothing, torch.tensor([1.0, torch.nan])), nothing)


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab", "square"])
def test_images_of_past_steps_are_not_kept(name: str) -> None:
    net, x = conv_net().requires_grad_(False), images(6)
    inputs, counts = AttackInput(net, x, net(x).argmax(dim=1)), list[int]()
    at = {10, 50}

    def count(_: nn.Module, __: object) -> None:
        counts.append(_live_images(x) if len(counts) in at else 0)

    net.register_forward_pre_hook(count)
    fields = {"queries": 60} if name == "square" else {"steps": 60} | ({} if name == "apgd-ce" else {"targets": 1})
    search_ball(attack_of(name, **fields), inputs, threat_model=threat("1/2550"), seed=0)
    early, late = (counts[position] for position in sorted(at))
    assert 0 < late <= early + 2


def _live_images(x: Tensor) -> int:
    gc.collect()
    return sum(type(found) is Tensor and found.shape[1:] == x.shape[1:] for found in gc.get_objects())


def test_fab_finds_the_librarys_distances() -> None:
    net, x = conv_net().requires_grad_(False), images(24, low=0.0, high=1.0)
    y = net(x).argmax(dim=1)
    distances = []
    for kind in (SortFreeFAB, torchattacks.FAB):
        attack = kind(net, eps=8 / 255, steps=10, multi_targeted=True)
        attack.target_class = 2
        with torch.no_grad():
            x_adv = attack.attack_single_run_targeted(x, y)
            assert torch.equal(net(x_adv).argmax(dim=1) != y, (x_adv != x).flatten(1).any(dim=1))
        distances.append((x_adv - x).flatten(1).abs().amax(dim=1))
    assert (distances[1] > 0).any()
    assert torch.allclose(*distances, rtol=0.01, atol=1e-4)
