import pytest
import torch

from harness.corruptions.noise import GaussianNoise, ImpulseNoise, ShotNoise, SpeckleNoise


def noisy(corruption, value, severity):
    x = torch.full((3, 200, 200), value)
    return corruption.apply(x, severity=severity, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.08), (3, 0.18), (5, 0.38)])
def test_gaussian_noise_has_the_paper_s_deviation(severity, sigma):
    result = noisy(GaussianNoise(), 0.5, severity)
    assert float(result.std()) == pytest.approx(sigma, rel=0.02)
    assert float(result.mean()) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(("severity", "photons"), [(1, 60), (5, 3)])
def test_shot_noise_counts_photons(severity, photons):
    result = noisy(ShotNoise(), 0.5, severity)
    assert torch.allclose(result * photons, (result * photons).round(), atol=1e-4)
    assert float(result.var()) == pytest.approx(0.5 / photons, rel=0.05)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.03), (5, 0.27)])
def test_impulse_noise_sets_the_share_to_black_or_white(severity, share):
    result = noisy(ImpulseNoise(), 0.5, severity)
    assert float((result != 0.5).float().mean()) == pytest.approx(share, rel=0.05)
    assert float((result == 1).float().mean()) == pytest.approx(share / 2, rel=0.1)


def test_speckle_noise_grows_with_brightness():
    dark, bright = (noisy(SpeckleNoise(), value, 2).std() for value in (0.1, 0.8))
    assert float(bright) == pytest.approx(8 * float(dark), rel=0.01)
    assert float(bright) == pytest.approx(0.8 * 0.2, rel=0.02)
