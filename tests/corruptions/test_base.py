from itertools import pairwise

import pytest
import torch

from harness.corruptions.base import CORRUPTIONS
from harness.corruptions.stream import corrupt_batch

COMPUTED = CORRUPTIONS.names()
KEYS = ("a", "b", "c", "d")


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("side", [8, 32, 224])
def test_corruption_keeps_the_contract_at_every_severity(name, side, scenes):
    corruption, x = CORRUPTIONS.parse(name), scenes(side)[:2]
    before = x.clone()
    for severity in corruption.severities:
        result = corrupt_batch(corruption, x, KEYS[:2], severity=severity, seed=0)
        assert (result.shape, result.dtype) == (x.shape, torch.float32)
        assert 0 <= result.min() <= result.max() <= 1
        assert torch.equal(result, corrupt_batch(corruption, x, KEYS[:2], severity=severity, seed=0))
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", [name for name in COMPUTED if name != "rounding"])
def test_distortion_of_photographs_rises_with_severity(name, scenes):
    corruption, x = CORRUPTIONS.parse(name), scenes(128)
    distortions = [
        float((corrupt_batch(corruption, x, KEYS, severity=severity, seed=0) - x).abs().mean()) for severity in range(1, 6)
    ]
    # ImageNet-C's fog is as dense at 4 as at 3, only rougher.
    assert all(harder >= 0.98 * milder for milder, harder in pairwise(distortions))
    assert distortions[4] > 1.2 * distortions[0] > 0


RANDOM = ("gaussian_noise", "impulse_noise", "glass_blur", "motion_blur", "fog", "snow", "translation", "occlusion")


@pytest.mark.parametrize("name", RANDOM)
def test_random_corruption_depends_on_seed_and_example(name, scenes):
    corruption, x = CORRUPTIONS.parse(name), scenes(32)[:1]
    first = corrupt_batch(corruption, x, ["a"], severity=3, seed=0)
    assert not torch.equal(first, corrupt_batch(corruption, x, ["a"], severity=3, seed=1))
    assert not torch.equal(first, corrupt_batch(corruption, x, ["b"], severity=3, seed=0))


@pytest.mark.parametrize("severities", [[], [0], [6], [2, 1], [1, 1]])
def test_severities_outside_the_levels_or_out_of_order_are_refused(severities):
    with pytest.raises(ValueError, match="severities: expected"):
        CORRUPTIONS.parse({"name": "fog", "severities": severities})


def test_unsupported_severity_is_explained():
    assert CORRUPTIONS.parse("fog").supports(5) is None
    assert CORRUPTIONS.parse("fog").supports(6) == "fog has the severities 1 to 5, not 6"
    assert CORRUPTIONS.parse("rounding").supports(2) == "rounding has the severities 1 to 1, not 2"
