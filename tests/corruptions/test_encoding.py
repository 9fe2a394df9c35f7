import pytest
import torch

from harness.corruptions.base import CORRUPTIONS
from harness.corruptions.stream import corrupt


def stored(name, x, severity):
    return corrupt(CORRUPTIONS.parse(name), x, severity=severity, seed=0, key="a")


def test_rounding_moves_a_value_by_half_a_level_at_most_and_only_once():
    x = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    rounded = stored("rounding", x, 1)
    assert float((rounded - x).abs().max()) <= 0.5 / 255 + 1e-6
    assert torch.equal(stored("rounding", rounded, 1), rounded)


def test_rounding_keeps_whole_levels_of_a_budget():
    """Cutting off instead of rounding would turn 8/255 into 9/255."""
    levels = torch.arange(256).float() / 255
    x = levels.expand(3, 1, 256)
    x_adv = (x - 8 / 255).clamp(0, 1)
    assert float((stored("rounding", x_adv, 1) - x).abs().max()) == pytest.approx(8 / 255, abs=1e-6)


def test_mildest_jpeg_is_nearly_invisible_and_the_paper_s_is_not(scenes):
    x = scenes(224)[0]
    camera, paper = (float((stored(name, x, 1) - x).abs().mean()) * 255 for name in ("jpeg", "jpeg_compression"))
    assert camera < 4
    assert paper > 2 * camera


def test_jpeg_qualities_may_be_chosen(scenes):
    x = scenes(32)[0]
    same = CORRUPTIONS.parse({"name": "jpeg", "qualities": [25, 18, 15, 10, 7]})
    assert torch.equal(corrupt(same, x, severity=2, seed=0, key="a"), stored("jpeg_compression", x, 2))


@pytest.mark.parametrize("qualities", [[95], [95, 90, 80, 70, 0], [95, 90, 80, 70, 101]])
def test_wrong_jpeg_qualities_are_refused(qualities):
    with pytest.raises(ValueError, match="qualities: expected 5 numbers from 1 to 100"):
        CORRUPTIONS.parse({"name": "jpeg", "qualities": qualities})
