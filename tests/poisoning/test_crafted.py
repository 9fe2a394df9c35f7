"""What the poisons that craft images with a network do beyond the contract of all poisons."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import SuiteError
from harness.images import ImageData
from harness.poisoning.clean_label_backdoor import CleanLabelBackdoor
from harness.poisoning.families import TargetedPoison
from harness.poisoning.feature_collision import FeatureCollision
from harness.poisoning.features import penultimate_features
from harness.poisoning.frame import check, check_data, poison_data
from harness.poisoning.gradient_matching import GradientMatching
from harness.poisoning.hidden_trigger import HiddenTrigger
from harness.poisoning.splits import Selection, images_at

EPS = Fraction(1, 4)


def features_of(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return net[:-1](images).detach()


def test_clean_label_keeps_labels_and_hides_what_the_image_shows(digits: ImageData, clean_net: nn.Module):
    poison = CleanLabelBackdoor(target_class="3", eps=EPS, steps=10)
    poisoned = poison_data(poison, digits, 0.03, seed=0, model=clean_net)
    split, indices = poisoned.data.splits["train"], poisoned.manifest.indices
    assert (split.labels[indices] == 3).all()
    assert (digits.splits["train"].labels[indices] == 3).all()
    with torch.no_grad():
        assert (clean_net(poisoned.images).argmax(dim=1) == 3).float().mean() < 0.5
    stamp = poison.trigger_stamp(8)
    images = torch.from_numpy(images_at(split, indices))
    assert torch.equal(images, stamp(poisoned.images))
    assert (images[:, :, stamp.mask] == 1).all()


def test_clean_label_perturbation_keeps_its_budget_off_the_trigger(digits: ImageData, clean_net: nn.Module):
    poison = CleanLabelBackdoor(target_class="3", eps=EPS, steps=5)
    poisoned = poison_data(poison, digits, 0.03, seed=0, model=clean_net)
    clean = torch.from_numpy(images_at(digits.splits["train"], poisoned.manifest.indices))
    off = ~poison.trigger_stamp(8).mask
    change = (torch.from_numpy(images_at(poisoned.data.splits["train"], poisoned.manifest.indices)) - clean).abs()[:, :, off]
    assert 0.1 < change.max() <= 0.25 + 1e-6


def test_hidden_trigger_moves_features_to_triggered_sources_without_a_trigger(digits: ImageData, clean_net: nn.Module):
    poison = HiddenTrigger(source_class="7", target_class="1", eps=EPS, steps=150, learning_rate=0.003, trigger="single_pixel")
    poisoned = poison_data(poison, digits, 0.02, seed=0, model=clean_net)
    train = digits.splits["train"]
    sources = Selection(train, np.flatnonzero(train.labels == 7), stamp=poison.trigger_stamp(8))
    goal = features_of(clean_net, torch.from_numpy(images_at(sources, np.arange(len(sources))))).mean(dim=0)
    before = features_of(clean_net, torch.from_numpy(images_at(train, poisoned.manifest.indices)))
    after = features_of(clean_net, poisoned.images)
    assert (after - goal).norm(dim=1).mean() < 0.8 * (before - goal).norm(dim=1).mean()
    assert poisoned.manifest.largest_change <= 0.25 + 1e-6
    assert (train.labels[poisoned.manifest.indices] == 1).all()
    assert set(poison.triggered(digits).labels) == {7}


def test_hidden_trigger_needs_a_source_image_for_every_poisoned_one(digits: ImageData):
    labels = digits.splits["train"].labels
    few = np.concatenate([labels[labels != 7], [7] * 5])
    with pytest.raises(SuiteError, match="too few examples of the source class '7' for the rate: expected 20 at least, got 5"):
        check(HiddenTrigger(source_class="7", target_class="1"), digits.class_names, few, resolution=8, rate=20 / len(few))


def test_gradient_matching_lowers_the_angle_to_the_targets_gradient(digits: ImageData, clean_net: nn.Module):
    poison = GradientMatching(source_class="7", target_class="1", eps=EPS, steps=25)
    poisoned = poison_data(poison, digits, 0.03, seed=0, model=clean_net)
    [target] = poisoned.manifest.targets

    def gradient(images: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(clean_net(images), torch.ones(len(images), dtype=torch.int64))
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(clean_net.parameters()))])

    wanted = gradient(digits.splits["test"][target.index][0][None])
    before = torch.from_numpy(images_at(digits.splits["train"], poisoned.manifest.indices))
    angles = [torch.cosine_similarity(gradient(images), wanted, dim=0) for images in (before, poisoned.images)]
    assert angles[1] > angles[0] + 0.1
    assert 0 < poisoned.manifest.largest_change <= 0.25 + 1e-6


def test_feature_collision_moves_features_onto_its_targets(digits: ImageData, clean_net: nn.Module):
    poison = FeatureCollision(source_class="7", target_class="1", steps=40, n_targets=2)
    poisoned = poison_data(poison, digits, 0.01, seed=0, model=clean_net)
    clean = torch.from_numpy(images_at(digits.splits["train"], poisoned.manifest.indices))
    for number, target in enumerate(poisoned.manifest.targets):
        goal = features_of(clean_net, digits.splits["test"][target.index][0][None])
        before, after = (features_of(clean_net, images[number::2]) for images in (clean, poisoned.images))
        assert (after - goal).norm(dim=1).mean() < 0.7 * (before - goal).norm(dim=1).mean()


@pytest.mark.parametrize("kind", [FeatureCollision, GradientMatching])
def test_targets_are_named_test_examples_of_the_source_class(kind: type[TargetedPoison], digits: ImageData):
    targets = kind(source_class="7", target_class="1", n_targets=4).targets(digits, seed=0)
    assert len({target.index for target in targets}) == 4
    for target in targets:
        assert (target.true_class, target.wanted_class) == ("7", "1")
        assert digits.splits["test"].labels[target.index] == 7
        assert digits.splits["test"].ids[target.index] == target.id


def test_targets_follow_the_seed_and_any_class_but_the_wanted_one(digits: ImageData):
    poison = GradientMatching(target_class="1", n_targets=30)
    assert poison.targets(digits, seed=0) == poison.targets(digits, seed=0)
    assert poison.targets(digits, seed=0) != poison.targets(digits, seed=1)
    assert "1" not in {target.true_class for target in poison.targets(digits, seed=0)}


def test_more_targets_than_test_examples_are_refused_before_crafting(digits: ImageData):
    with pytest.raises(SuiteError, match=r"poisons\.gradient_matching\.n_targets: expected at most \d+, .*got 400"):
        check_data(GradientMatching(source_class="7", target_class="1", n_targets=400), digits, 0.01)


def test_collision_target_without_a_poisoned_image_is_refused(digits: ImageData):
    poison = FeatureCollision(source_class="7", target_class="1", n_targets=5)
    with pytest.raises(SuiteError, match=r"feature_collision\.rates: .*expected one for each of 5 targets, got 3"):
        check_data(poison, digits, 3 / 1078)


def test_crafting_reads_the_same_features_as_the_detectors(digits: ImageData, clean_net: nn.Module):
    split = Selection(digits.splits["test"], np.arange(6))
    by_hand = features_of(clean_net, torch.from_numpy(images_at(split, np.arange(6))))
    assert np.allclose(penultimate_features(clean_net, split, device="cpu", batch_size=4), by_hand.numpy(), atol=1e-5)
