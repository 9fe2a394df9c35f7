import pytest
import torch

from harness.corruptions.base import CORRUPTIONS
from harness.corruptions.stream import corrupt


def digital(name, x, severity):
    return corrupt(CORRUPTIONS.parse(name), x, severity=severity, seed=0, key="a")


@pytest.mark.parametrize(("severity", "kept"), [(1, 0.4), (5, 0.05)])
def test_contrast_shrinks_the_deviation_about_each_channel_s_mean(severity, kept, scenes):
    x = scenes(32)[0]
    flat = digital("contrast", x, severity)
    assert torch.allclose(flat.std(dim=(1, 2)), kept * x.std(dim=(1, 2)), rtol=1e-4)
    assert torch.allclose(flat.mean(dim=(1, 2)), x.mean(dim=(1, 2)), atol=1e-5)


def test_pixelate_leaves_blocks(scenes):
    blocky = digital("pixelate", scenes(32)[0], 5)
    assert torch.equal(blocky[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2), blocky)
