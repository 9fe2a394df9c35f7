import pytest
import torch

from harness.corruptions.base import CORRUPTIONS
from harness.corruptions.stream import corrupt

BLURS = ("gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur")


@pytest.mark.parametrize("name", BLURS)
def test_blur_leaves_a_flat_image_flat(name):
    x = torch.full((3, 64, 64), 0.3)
    assert torch.allclose(corrupt(CORRUPTIONS.parse(name), x, severity=5, seed=0, key="a"), x, atol=1e-5)


@pytest.mark.parametrize("name", BLURS)
def test_blur_removes_detail(name, scenes):
    x = scenes(128)[0]
    blurred = corrupt(CORRUPTIONS.parse(name), x, severity=3, seed=0, key="a")
    assert blurred.diff(dim=2).abs().mean() < 0.8 * x.diff(dim=2).abs().mean()


@pytest.mark.parametrize("name", ["gaussian_blur", "defocus_blur", "zoom_blur"])
def test_blur_looks_the_same_at_every_resolution(name, scenes):
    corruption = CORRUPTIONS.parse(name)
    large, small = (corrupt(corruption, scenes(side)[0], severity=5, seed=0, key="a") for side in (224, 112))
    halved = torch.nn.functional.avg_pool2d(large, 2)
    assert float((halved - small).abs().mean()) < 0.01


def test_zoom_blur_keeps_the_centre_sharper_than_the_border(scenes):
    x = scenes(128).mean(dim=0)
    change = (corrupt(CORRUPTIONS.parse("zoom_blur"), x, severity=3, seed=0, key="a") - x).abs().mean(dim=0)
    assert change[56:72, 56:72].mean() < change.mean()
