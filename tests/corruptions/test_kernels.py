import math

import pytest
import torch
from torch.nn import functional

from harness.corruptions.kernels import blur, disc, gaussian, streak


@pytest.mark.parametrize(
    "kernel", [disc(0.1), disc(3), disc(7.3), gaussian(0.1), gaussian(2.5), streak(10, 3, 30), streak(0.3, 0.1, -45)]
)
def test_kernel_is_square_odd_and_sums_to_one(kernel):
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.min() >= 0


def test_disc_covers_its_area():
    kernel = disc(6.4)
    assert 1 / float(kernel.max()) == pytest.approx(math.pi * 6.4**2, rel=0.01)


def test_gaussian_has_its_standard_deviation():
    kernel = gaussian(2.0)
    steps = torch.arange(len(kernel)) - len(kernel) // 2
    assert float((kernel.sum(dim=0) * steps**2).sum()) ** 0.5 == pytest.approx(2, rel=0.01)


def test_streak_starts_at_the_centre_and_follows_its_angle():
    kernel = streak(10, 4, 45)
    centre = len(kernel) // 2
    rows, columns = torch.nonzero(kernel > 1e-6, as_tuple=True)
    assert int(kernel.argmax()) % len(kernel) in (centre, centre + 1)
    assert rows.min() >= centre
    assert int((rows - columns).abs().max()) <= 1


def test_blur_is_the_convolution_with_a_mirrored_border():
    x, kernel = torch.rand(3, 20, 23, generator=torch.Generator().manual_seed(0)), streak(3, 2, 20)
    reach = len(kernel) // 2
    padded = functional.pad(x[:, None], (reach,) * 4, mode="reflect")
    expected = functional.conv2d(padded, kernel.flip(0, 1)[None, None])[:, 0]
    assert torch.allclose(blur(x, kernel), expected, atol=1e-5)
