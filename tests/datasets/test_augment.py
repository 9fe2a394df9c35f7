import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.datasets.augment import Augment

STILL = {"flip": False, "rotation": 0, "translation": 0, "scale": 0}
IMAGE = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


def smooth(side: int = 33) -> Tensor:
    """Returns an image whose channels are the horizontal place, the vertical place and their mean, 0 to 1."""
    ramp = torch.linspace(0, 1, side)
    across, down = ramp.expand(side, side), ramp[:, None].expand(side, side)
    return torch.stack([across, down, (across + down) / 2])


def apply(image: Tensor, seed: int = 0, **fields: object) -> Tensor:
    return Augment.model_validate({**STILL, **fields}).apply(image, np.random.default_rng(seed))


def centre(image: Tensor) -> tuple[float, float]:
    """Returns the place of the source that is seen in the middle of a changed `smooth()`."""
    middle = image.shape[-1] // 2
    return float(image[0, middle, middle]), float(image[1, middle, middle])


def test_nothing_asked_for_changes_nothing() -> None:
    assert torch.equal(apply(IMAGE), IMAGE)


AUGMENTS = st.builds(
    Augment,
    crop=st.floats(0.05, 1),
    rotation=st.floats(0, 180),
    translation=st.floats(0, 0.5),
    scale=st.floats(0, 0.99),
    brightness=st.floats(0, 0.99),
    contrast=st.floats(0, 0.99),
    saturation=st.floats(0, 1),
    white_balance=st.floats(0, 0.99),
)


@given(AUGMENTS, st.integers(0, 2**32))
def test_every_change_keeps_shape_type_and_bounds(augment: Augment, seed: int) -> None:
    changed = augment.apply(IMAGE, np.random.default_rng(seed))
    assert (changed.shape, changed.dtype) == (IMAGE.shape, torch.float32)
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_same_generator_state_gives_the_same_image_and_another_one_another() -> None:
    augment = Augment(crop=0.5, brightness=0.2, contrast=0.2)
    first, again, other = (augment.apply(IMAGE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_image_itself_is_left_alone() -> None:
    copy = IMAGE.clone()
    apply(copy, flip=True, rotation=20, brightness=0.5, contrast=0.5)
    assert torch.equal(copy, IMAGE)


def test_half_of_the_images_are_mirrored_left_to_right() -> None:
    changed = [apply(IMAGE, seed, flip=True) for seed in range(200)]
    mirrored = sum(torch.equal(image, IMAGE.flip(-1)) for image in changed)
    assert mirrored + sum(torch.equal(image, IMAGE) for image in changed) == 200
    assert 70 < mirrored < 130


def test_rotation_stays_within_its_angle_and_keeps_the_centre() -> None:
    angles = []
    for seed in range(50):
        changed = apply(smooth(), seed, rotation=20)
        assert centre(changed) == pytest.approx((0.5, 0.5), abs=1e-3)
        angles.append(np.degrees(np.arctan2(changed[1, 16, 20] - 0.5, changed[0, 16, 20] - 0.5)))
    assert max(np.abs(angles)) <= 20.1
    assert max(angles) > 15
    assert min(angles) < -15


def test_shift_stays_within_its_share_of_the_side() -> None:
    shifts = np.array([centre(apply(smooth(), seed, translation=0.2)) for seed in range(50)]) - 0.5
    assert np.abs(shifts).max() <= 0.2 * 33 / 32 + 1e-3
    assert np.abs(shifts).max() > 0.17
    assert np.abs(shifts.mean(axis=0)).max() < 0.06


def test_scale_stays_within_its_share() -> None:
    zooms = [0.125 / float(apply(smooth(), seed, scale=0.3)[0, 16, 20] - 0.5) for seed in range(50)]
    assert 0.69 < min(zooms) < 0.75
    assert 1.25 < max(zooms) < 1.31


def test_crop_has_at_least_the_smallest_area_lies_inside_and_varies_in_aspect() -> None:
    areas, aspects = [], []
    for seed in range(100):
        changed = apply(smooth(), seed, crop=0.3)
        width = float(changed[0, 16, 20] - changed[0, 16, 12]) * 4
        height = float(changed[1, 20, 16] - changed[1, 12, 16]) * 4
        areas.append(width * height)
        aspects.append(width / height)
        middle = np.array(centre(changed))
        assert (middle - np.array([width, height]) / 2 > -0.03).all()
        assert (middle + np.array([width, height]) / 2 < 1.03).all()
    assert 0.29 < min(areas) < 0.4
    assert 0.9 < max(areas) < 1.01
    assert 0.74 < min(aspects) < 0.85
    assert 1.18 < max(aspects) < 1.35


def test_brightness_and_contrast_change_mean_and_spread_only() -> None:
    image = IMAGE * 0.2 + 0.4
    brighter, starker = apply(image, 3, brightness=0.5), apply(image, 3, contrast=0.5)
    assert torch.allclose(brighter / image, (brighter / image).mean(), atol=1e-5)
    assert not torch.allclose(brighter, image, atol=0.01)
    assert float(starker.mean()) == pytest.approx(float(image.mean()), abs=1e-5)
    assert abs(float(starker.std() / image.std()) - 1) > 0.01


def test_saturation_scales_the_distance_from_grey_and_leaves_grey_images_alone() -> None:
    image = IMAGE * 0.2 + 0.4
    grey = image.mean(0, keepdim=True)
    ratios = []
    for seed in range(50):
        change = (apply(image, seed, saturation=0.5) - grey) / (image - grey)
        assert torch.allclose(change, change.median(), atol=1e-2)
        ratios.append(float(change.median()))
    assert 0.49 < min(ratios) < 0.6
    assert 1.4 < max(ratios) < 1.51
    assert torch.allclose(apply(grey.expand(3, -1, -1), 1, saturation=0.5), grey, atol=1e-6)


def test_white_balance_scales_each_channel_by_its_own_share() -> None:
    image = IMAGE * 0.2 + 0.4
    gains = torch.stack([(apply(image, seed, white_balance=0.3) / image).mean((1, 2)) for seed in range(50)])
    assert torch.allclose(apply(image, 7, white_balance=0.3) / image, gains[7].view(3, 1, 1), atol=1e-4)
    assert (gains.amin(0) > 0.69).all()
    assert (gains.amin(0) < 0.78).all()
    assert (gains.amax(0) > 1.22).all()
    assert (gains.amax(0) < 1.31).all()


def test_turning_one_change_on_leaves_the_draws_of_the_others() -> None:
    image = IMAGE * 0.2 + 0.4
    both = apply(image, 5, flip=True, brightness=0.3)
    assert torch.allclose(both, apply(apply(image, 5, flip=True), 5, brightness=0.3))


@pytest.mark.parametrize("detail", [1, 1.5, 3])
def test_an_image_is_read_as_large_as_its_crop_needs(detail: float) -> None:
    augment = Augment(crop=0.2, detail=detail, rotation=30, scale=0.2)
    large = smooth(33 * 8)
    for seed in range(50):
        change = augment.draw(np.random.default_rng(seed))
        side = change.source_side(32)
        assert 32 <= side <= 32 * detail
        shown = change.apply(large, (32, 32))
        assert shown.shape == (3, 32, 32)
        # The longer side of what is shown, in pixels of an image of that side length.
        steps = shown[:, 16, 17] - shown[:, 16, 16], shown[:, 17, 16] - shown[:, 16, 16]
        longest = max(float(torch.hypot(step[0], step[1])) for step in steps) * side
        assert longest == pytest.approx(1, abs=0.05) or side in (32, round(32 * detail))


def test_more_pixels_do_not_change_what_is_shown() -> None:
    augment = Augment(crop=0.2, rotation=30, scale=0.2)
    change = augment.draw(np.random.default_rng(5))
    assert torch.allclose(change.apply(smooth(64), (32, 32)), change.apply(smooth(512), (32, 32)), atol=0.01)
