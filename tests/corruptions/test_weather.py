import colorsys

import pytest
import torch

from harness.corruptions.base import CORRUPTIONS
from harness.corruptions.stream import corrupt


def weather(name, x, severity):
    return corrupt(CORRUPTIONS.parse(name), x, severity=severity, seed=0, key="a")


def test_fog_lowers_contrast_and_keeps_the_brightest_value(scenes):
    x = scenes(128)[0]
    foggy = weather("fog", x, 3)
    assert foggy.std() < x.std()
    assert foggy.max() <= x.max()


def test_fog_hangs_unevenly_over_a_flat_image():
    foggy = weather("fog", torch.full((3, 64, 64), 0.5), 1)
    assert foggy.amax() - foggy.amin() == pytest.approx(0.5 * 1.5 / 2, abs=1e-5)
    assert torch.equal(foggy[0], foggy[2])


def test_snow_brightens_and_never_darkens(scenes):
    x = scenes(128)[0]
    snowy = weather("snow", x, 1)
    assert (snowy - x).min() >= -1e-6
    assert (snowy - x).max() > 0.2


@pytest.mark.parametrize(("severity", "added"), [(1, 0.1), (5, 0.5)])
def test_brightness_raises_the_value_of_hsv(severity, added, scenes):
    x = scenes(8)[0]
    x[:, 0, 0] = 0
    brighter = weather("brightness", x, severity)
    for before, after in zip(x.flatten(1).T.tolist(), brighter.flatten(1).T.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        assert after == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(value + added, 1)), abs=1e-5)
