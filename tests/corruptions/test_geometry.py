import pytest
import torch

from harness.corruptions.base import CORRUPTIONS
from harness.corruptions.stream import corrupt


def posed(name, x, severity, key="a"):
    return corrupt(CORRUPTIONS.parse(name), x, severity=severity, seed=0, key=key)


def bar(side):
    x = torch.zeros(3, side, side)
    x[:, side // 2 - 1 : side // 2 + 1] = 1
    return x


def test_rotation_by_45_degrees_lays_a_bar_along_a_diagonal():
    turned = posed("rotation", bar(65), 5)[0, 10:55, 10:55]
    on_a_diagonal = max(turned.diagonal().mean(), turned.flip(1).diagonal().mean())
    assert on_a_diagonal > 0.8
    assert turned.mean() < 0.1


def test_rotation_turns_both_ways():
    results = torch.stack([posed("rotation", bar(64), 3, key=str(key)) for key in range(8)])
    assert len(results.unique(dim=0)) == 2


@pytest.mark.parametrize(("severity", "share"), [(1, 0.05), (5, 0.25)])
def test_translation_moves_the_content_by_its_share_of_the_side(severity, share):
    x = torch.zeros(3, 101, 101)
    x[:, 50, 50] = 1
    row, column = torch.nonzero(posed("translation", x, severity)[0])[0].tolist()
    assert ((row - 50) ** 2 + (column - 50) ** 2) ** 0.5 == pytest.approx(share * 101, abs=1)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.05), (5, 0.4)])
def test_occlusion_hides_its_share_of_the_area(severity, share):
    hidden = posed("occlusion", torch.zeros(3, 200, 200), severity)
    assert float((hidden == 0.5).float().mean()) == pytest.approx(share, rel=0.03)


def test_larger_occlusion_hides_what_the_smaller_hid_in_most_places():
    small, large = (posed("occlusion", torch.zeros(3, 100, 100), severity) > 0 for severity in (1, 5))
    assert (small & large).sum() > 0.5 * small.sum()
