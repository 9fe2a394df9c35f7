from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from harness.errors import HarnessError, SuiteError
from harness.poisoning import art
from harness.poisoning.triggers import AnyTrigger, BackdoorTrigger, Blended, Patch, Pattern, SinglePixel, Stamp

RESOLUTION = 16


@pytest.fixture
def photograph() -> torch.Tensor:
    return torch.rand(5, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(0)) * 0.9


def pixels(trigger: BackdoorTrigger, x: torch.Tensor) -> list[int]:
    """Number of pixels that the trigger changes in each image."""
    return [(one != other).any(dim=0).sum().item() for one, other in zip(trigger.stamp(RESOLUTION)(x), x, strict=True)]


def test_single_pixel_is_one_pixel_in_three_channels(photograph: torch.Tensor):
    stamped = SinglePixel().stamp(RESOLUTION)(photograph)
    assert ((stamped != photograph).flatten(1).sum(dim=1) == 3).all()
    assert (stamped[:, :, RESOLUTION - 2, RESOLUTION - 2] == 1).all()


@pytest.mark.parametrize(
    ("trigger", "count"),
    [(Pattern(), 4), (Pattern(margin=1, value=0.95), 4), (Patch(size=3, margin=1), 9), (Blended(), RESOLUTION**2)],
)
def test_trigger_changes_its_own_pixels_and_no_other(trigger: BackdoorTrigger, count: int, photograph: torch.Tensor):
    assert pixels(trigger, photograph) == [count] * len(photograph)
    assert trigger.stamp(RESOLUTION).mask.sum() == count


@pytest.mark.parametrize("trigger", [Pattern(), SinglePixel(value=0.3)])
def test_stamp_equals_what_art_makes_of_the_image(trigger: BackdoorTrigger, photograph: torch.Tensor):
    by_art = art.backdoored(photograph.numpy(), trigger.perturb)
    assert np.array_equal(trigger.stamp(RESOLUTION)(photograph).numpy(), by_art)


@pytest.mark.parametrize("trigger", [Patch(size=5), Patch(size=4, opacity=0.5), Blended(opacity=0.3)])
def test_picture_equals_arts_within_its_8_bits(trigger: BackdoorTrigger, photograph: torch.Tensor):
    by_art = art.backdoored(photograph.numpy(), trigger.perturb)
    assert np.abs(trigger.stamp(RESOLUTION)(photograph).numpy() - by_art).max() <= 2.5 / 255


def test_stamped_pixels_stay_in_range():
    x = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    for trigger in (Pattern(), Patch(size=3, opacity=0.4), Blended(opacity=0.7)):
        stamped = trigger.stamp(8)(x)
        assert stamped.min() >= 0
        assert stamped.max() <= 1


@pytest.mark.parametrize("trigger", [Pattern(margin=15), SinglePixel(margin=17), Patch(size=17), Patch(size=10, margin=7)])
def test_trigger_larger_than_the_image_is_refused(trigger: BackdoorTrigger):
    with pytest.raises(SuiteError, match=r"poisons\.x\.trigger: expected a trigger within 16 pixels, got one that needs 17"):
        trigger.check(RESOLUTION, where="poisons.x.trigger")


def test_trigger_that_just_fits_is_drawn():
    assert Patch(size=16).stamp(RESOLUTION).mask.all()
    assert Pattern(margin=14).stamp(RESOLUTION).mask.sum() == 4


def test_users_image_becomes_the_patch_in_rgb_order(tmp_path: Path):
    Image.new("RGB", (30, 20), (255, 0, 51)).save(tmp_path / "sticker.png")
    stamp = Patch(size=4, image=str(tmp_path / "sticker.png")).stamp(8)
    corner = stamp(torch.full((3, 8, 8), 0.5))[:, 4:, 4:]
    assert torch.allclose(corner, torch.tensor([1.0, 0.0, 0.2]).view(3, 1, 1).expand(3, 4, 4))


def test_missing_or_broken_image_is_named(tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    for name, found in (("absent.png", "No such file"), ("text.png", "that is none")):
        with pytest.raises(SuiteError, match=rf"trigger\.image: expected an image file, got .*{name}.*{found}"):
            Patch(image=str(tmp_path / name)).check(8, where="trigger")


def test_identity_follows_the_images_content_and_not_its_path(tmp_path: Path):
    for name, colour in (("a.png", "red"), ("b.png", "red"), ("c.png", "blue")):
        Image.new("RGB", (4, 4), colour).save(tmp_path / name)
    first, same, other = (Patch(image=str(tmp_path / name)).identity() for name in ("a.png", "b.png", "c.png"))
    assert first == same
    assert first != other


def test_hash_tells_triggers_apart_and_is_reproducible():
    hashes = [trigger.stamp(8).sha256 for trigger in (Pattern(), Pattern(margin=3), SinglePixel(), Patch(), Blended())]
    assert len(set(hashes)) == len(hashes)
    assert Blended().stamp(8).sha256 == hashes[-1]


def test_trigger_is_read_by_its_kind_alone_or_with_fields():
    parse = TypeAdapter(AnyTrigger).validate_python
    assert parse("single_pixel") == SinglePixel()
    assert parse({"kind": "patch", "size": 6}) == Patch(size=6)


def test_stamp_outside_the_value_range_is_refused():
    with pytest.raises(HarnessError, match=r"trigger: expected pixels in \[0,1\], got 255.0 to 255.0"):
        Stamp(torch.zeros(3, 8, 8), torch.full((3, 8, 8), 255.0))
