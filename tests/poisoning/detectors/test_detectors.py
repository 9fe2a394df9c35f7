"""The contract of every detector, and what each finds on a planted poison, on digits with a backdoor, and on clean ones."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.images import ImageData
from harness.poisoning.backdoor import Backdoor
from harness.poisoning.detectors.activation_clustering import ActivationClustering
from harness.poisoning.detectors.base import DETECTORS, Detection, Detector
from harness.poisoning.detectors.score import score_detector
from harness.poisoning.detectors.spectral_signatures import SpectralSignatures
from harness.poisoning.detectors.strip import Strip
from harness.poisoning.poisoned import PoisonedData
from harness.poisoning.splits import Selection
from harness.poisoning.triggers import Stamp

from ..conftest import TARGET

NAMES = ("activation_clustering", "spectral_signatures", "strip")


def detect(detector: Detector, net: nn.Module, data: ImageData, **changes: Any) -> Detection:
    options = {"reference": data.splits["validation"], "device": "cpu", "batch_size": 64, "seed": 0, **changes}
    return detector.detect(net, data.splits["train"], **options)


def planted(*, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (600, 20) of three classes with an offset; a share of class 1 lies far off. Returns the truth as well."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), 200)
    features = rng.normal(size=(600, 20)).astype(np.float32) + 30
    poisoned = np.zeros(600, dtype=bool)
    poisoned[200 : 200 + round(share * 200)] = True
    features[poisoned, :2] += 12
    return features, labels, poisoned


def test_every_registered_detector_is_under_contract():
    assert tuple(DETECTORS.names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_detection_is_finite_and_decided_by_the_seed(name: str, backdoored: PoisonedData, backdoored_net: nn.Module):
    detector = DETECTORS.parse(name)
    first, again = detect(detector, backdoored_net, backdoored.data), detect(detector, backdoored_net, backdoored.data)
    assert first.scores.shape == first.suspicious.shape == (1078,)
    assert np.isfinite(first.scores).all()
    assert first.suspicious.dtype == bool
    assert np.array_equal(first.scores, again.scores)
    assert np.array_equal(first.suspicious, again.suspicious)


@pytest.mark.parametrize("name", NAMES)
def test_batch_size_changes_nothing(name: str, backdoored: PoisonedData, backdoored_net: nn.Module):
    detector = DETECTORS.parse(name)
    split = replace(backdoored.data, splits={**backdoored.data.splits, "train": backdoored.data.splits["test"]})
    one, other = (detect(detector, backdoored_net, split, batch_size=size) for size in (64, 50))
    assert np.allclose(one.scores, other.scores, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_network_is_left_as_it_was(name: str, backdoored: PoisonedData, backdoored_net: nn.Module):
    net = copy.deepcopy(backdoored_net).train()
    net[0].eval()
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    detect(DETECTORS.parse(name), net, backdoored.data)
    assert [module.training for module in net.modules()] == [True, False, *[True] * 7]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


@pytest.mark.parametrize("size_threshold", [0.35, 1.0])
def test_clustering_catches_a_planted_poison(size_threshold: float):
    features, labels, poisoned = planted(share=0.25)
    detection = ActivationClustering(size_threshold=size_threshold).detect_in_features(features, labels, seed=0)
    score = score_detector(detection, poisoned)
    assert score.auc > 0.99
    assert score.recall == 1
    in_its_class = detection.suspicious[labels == 1]
    assert np.array_equal(in_its_class, poisoned[labels == 1])


def test_clustering_by_the_smaller_cluster_drops_part_of_every_clean_class():
    features, labels, _ = planted(share=0)
    always, small = (
        score_detector(
            ActivationClustering(size_threshold=share).detect_in_features(features, labels, seed=0), np.zeros(600, dtype=bool)
        )
        for share in (1.0, 0.35)
    )
    assert always.false_alarm_rate > 0.3
    assert small.false_alarm_rate < always.false_alarm_rate


def test_clustering_passes_over_classes_that_cannot_be_clustered():
    features, labels, poisoned = planted(share=0.25)
    features = np.concatenate([features, np.zeros((5, 20), dtype=np.float32), np.ones((1, 20), dtype=np.float32)])
    labels = np.concatenate([labels + 1, [7] * 5, [0]])
    detection = ActivationClustering().detect_in_features(features, labels, seed=0)
    assert not detection.suspicious[600:].any()
    assert (detection.scores[600:] == 0).all()
    assert detection.suspicious[:600][poisoned].all()


def test_clustering_of_identical_features_suspects_nobody():
    detection = ActivationClustering().detect_in_features(np.ones((8, 3), dtype=np.float32), np.arange(8) % 2, seed=0)
    assert not detection.suspicious.any()


def test_spectral_signatures_catch_a_planted_poison_despite_an_offset():
    features, labels, poisoned = planted(share=0.1)
    detection = SpectralSignatures(expected_rate=0.1).detect_in_features(features, labels)
    score = score_detector(detection, poisoned)
    assert score.auc > 0.99
    assert score.recall == 1


def test_spectral_signatures_suspect_the_same_share_of_clean_classes():
    features, labels, _ = planted(share=0)
    detection = SpectralSignatures(expected_rate=0.1).detect_in_features(features, labels)
    shares = [detection.suspicious[labels == label].mean() for label in range(3)]
    assert shares == pytest.approx([0.15] * 3, abs=0.01)


def test_spectral_score_is_the_papers():
    features, labels, _ = planted(share=0.1)
    scores = SpectralSignatures().detect_in_features(features, labels).scores
    centred = features[labels == 1] - features[labels == 1].mean(axis=0)
    direction = np.linalg.svd(centred.astype(np.float64), full_matrices=False)[2][0]
    assert np.allclose(scores[labels == 1], np.abs(centred @ direction), atol=1e-3)


def test_strip_tells_triggered_test_images_from_clean_ones(digits: ImageData, backdoored_net: nn.Module):
    test = digits.splits["test"]
    triggered = Backdoor(target_class=str(TARGET)).triggered(digits)
    options = {"reference": digits.splits["validation"], "device": "cpu", "batch_size": 64, "seed": 0}
    found = Strip().detect(backdoored_net, triggered, **options)
    alarms = Strip().detect(backdoored_net, Selection(test, triggered.indices), **options)
    assert found.threshold == alarms.threshold
    truth = np.repeat([True, False], len(triggered))
    both = Detection(
        np.concatenate([found.scores, alarms.scores]), np.concatenate([found.suspicious, alarms.suspicious]), found.threshold
    )
    score = score_detector(both, truth)
    assert score.auc > 0.75
    assert score.false_alarm_rate < 0.1


def test_strip_gives_a_sure_network_the_highest_score(digits: ImageData):
    class Sure(nn.Module):
        """Certain of white images, which stay white whatever is added to them, undecided on all others."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.flatten(1).amin(dim=1) > 0.99).float()[:, None] * torch.tensor([50.0, 0.0, 0.0, 0.0])

    white = Stamp(torch.ones(3, 8, 8), torch.ones(3, 8, 8))
    bright = Selection(digits.splits["test"], np.arange(6), stamp=white)
    options = {"reference": digits.splits["validation"], "device": "cpu", "batch_size": 4, "seed": 0}
    assert Strip().scores(Sure(), bright, **options) == pytest.approx(0, abs=1e-6)
    dark = Selection(digits.splits["test"], np.arange(6))
    assert Strip().scores(Sure(), dark, **options) == pytest.approx(-2)
