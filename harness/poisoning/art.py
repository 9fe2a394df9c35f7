"""The one module that imports the Adversarial Robustness Toolbox for poisons and their detectors.

ART gets the examples to poison, or the features of a training set, never a whole set of images. Each function imports it, as
the import takes seconds. ART gets copies of networks, as it changes modes, gradients and hooks. Arguments that are not
explained here are fields of the plug-in that calls the function.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.system.lazy import torch
from harness.system.seeds import global_seed

if TYPE_CHECKING:
    from torch import nn


logger = logging.getLogger(__name__)

Images = NDArray[np.float32]
"""Images (N, 3, R, R) in [0,1]."""
Features = NDArray[np.float32]
"""Features (N, D)."""
Labels = NDArray[np.int64]
"""Class indices (N,)."""

GRADIENT_MATCHING_RATES = [1e-1, 1e-2, 1e-3, 1e-4]
GRADIENT_MATCHING_MILESTONES = (0.4, 0.6, 0.8, 0.88)
"""ART's learning rates, and the shares of all steps after which they change: 100, 150, 200 and 220 of its 250 steps."""


def backdoored(x: Images, perturbation: Callable[[Images], Images]) -> Images:
    """Returns images with a trigger, by ART's BadNets attack; `perturbation` applies the trigger."""
    from art.attacks.poisoning import PoisoningAttackBackdoor

    poisoned, _ = PoisoningAttackBackdoor(perturbation).poison(x, np.zeros((len(x), 1)))
    return poisoned.astype(np.float32)


def add_pattern(x: Images, *, distance: int, value: float) -> Images:
    """Returns images with ART's pattern of four pixels, `distance` pixels from the lower right corner."""
    from art.attacks.poisoning.perturbations import add_pattern_bd

    return add_pattern_bd(x, distance=distance, pixel_value=value, channels_first=True)


def add_single_pixel(x: Images, *, distance: int, value: float) -> Images:
    """Returns images with one pixel set, `distance` pixels from the lower right corner.

    ART's function expects channels last: given (N, 3, R, R) it would set a value in each of R columns.
    """
    from art.attacks.poisoning.perturbations import add_single_bd

    return add_single_bd(x.transpose(0, 2, 3, 1), distance=distance, pixel_value=value).transpose(0, 3, 1, 2)


def insert_picture(x: Images, picture: io.BytesIO, *, corner: int, size: int, opacity: float) -> Images:
    """Returns images with an encoded picture on them, its upper left pixel at row and column `corner`.

    ART works in 8 bits and rounds every pixel of the image down to them.
    """
    from art.attacks.poisoning.perturbations import insert_image

    place = {"random": False, "x_shift": corner, "y_shift": corner, "size": (size, size)}
    return insert_image(x, picture, channels_first=True, mode="RGB", blend=opacity, **place)


def clean_label_pgd(model: nn.Module, x: Images, y: Labels, *, classes: int, eps: float, alpha: float, steps: int) -> Images:
    """Returns images that a network misclassifies: the first half of ART's clean-label backdoor.

    ART's own `poison` draws examples with replacement and does not return their positions. So the caller draws them, and
    ART's PGD gets each of them once. The second half, the trigger, is a stamp that is applied when an image is read.
    """
    from art.attacks.poisoning import PoisoningAttackBackdoor, PoisoningAttackCleanLabelBackdoor

    labels = np.eye(classes, dtype=np.float32)[y]
    classifier = _classifier(copy.deepcopy(model), x, classes=classes)
    backdoor = PoisoningAttackBackdoor(np.copy)
    attack = PoisoningAttackCleanLabelBackdoor(backdoor, classifier, labels[0], eps=eps, eps_step=alpha, max_iter=steps).attack
    attack.set_params(verbose=False)
    return attack.generate(x, y=labels).astype(np.float32)


def gradient_matched(
    model: nn.Module,
    x: Images,
    y: Labels,
    *,
    x_target: Images,
    y_wanted: Labels,
    classes: int,
    eps: float,
    steps: int,
    restarts: int,
    batch_size: int,
) -> Images:
    """Returns images whose training gradient has the direction of the gradient of the targets with the wanted label.

    `x` are images of the wanted class and `y` their labels; `x_target` (T, 3, R, R) are the test images aimed at, and
    `y_wanted` (T,) the classes that they shall be classified as.
    """
    from art.attacks.poisoning import GradientMatchingAttack, gradient_matching_attack

    # ART moves images to the first GPU if there is one, whatever the device of the network.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    attack = GradientMatchingAttack(
        _classifier(copy.deepcopy(model).to(device), x, classes=classes),
        percent_poison=1.0,
        epsilon=eps,
        max_trials=restarts,
        max_epochs=steps,
        learning_rate_schedule=(GRADIENT_MATCHING_RATES, [round(share * steps) for share in GRADIENT_MATCHING_MILESTONES]),
        batch_size=batch_size,
        verbose=0,
    )
    with _replaced(gradient_matching_attack, "trange", range):
        return attack.poison(x_target, y_wanted, x, y)[0].astype(np.float32)


def hidden_trigger(
    model: nn.Module,
    x: Images,
    x_source: Images,
    *,
    perturbation: Callable[[Images], Images],
    eps: float,
    learning_rate: float,
    steps: int,
    batch_size: int,
) -> Images:
    """Returns images whose features are those of triggered images of the source class.

    `x` are images of the target class, `x_source` at least as many of the source class; `perturbation`
    applies the trigger.
    """
    from art.attacks.poisoning import HiddenTriggerBackdoor, PoisoningAttackBackdoor
    from art.attacks.poisoning.hidden_trigger_backdoor import hidden_trigger_backdoor_pytorch

    target, source = np.eye(2, dtype=np.float32)
    attack = HiddenTriggerBackdoor(
        _classifier(_probe(model, x), x, classes=2),
        target=target,
        source=source,
        feature_layer="features",
        backdoor=PoisoningAttackBackdoor(perturbation),
        eps=eps,
        learning_rate=learning_rate,
        max_iter=steps,
        batch_size=batch_size,
        poison_percent=1.0,
        verbose=False,
    )
    labels = np.concatenate([np.tile(target, (len(x), 1)), np.tile(source, (len(x_source), 1))])
    with _replaced(hidden_trigger_backdoor_pytorch, "print", logger.debug):
        poisoned, order = attack.poison(np.concatenate([x, x_source]), labels)
    return poisoned[np.argsort(order)].astype(np.float32)


def feature_collided(
    model: nn.Module,
    x: Images,
    x_target: Images,
    *,
    classes: int,
    learning_rate: float,
    similarity: float,
    steps: int,
    watermark: float,
) -> Images:
    """Returns images that look like `x` and have the features of the one test image `x_target` (1, 3, R, R).

    ART's attack keeps its reduced learning rate from one image to the next. Here each image gets an attack of its own.
    """
    from art.attacks.poisoning import FeatureCollisionAttack

    options = {"learning_rate": learning_rate, "similarity_coeff": similarity, "max_iter": steps, "watermark": watermark}
    classifier = _classifier(_probe(model, x), x, classes=classes)
    poisoned = [
        FeatureCollisionAttack(classifier, x_target, "features", verbose=False, **options).poison(image[None])[0] for image in x
    ]
    return np.concatenate(poisoned).astype(np.float32)


class Clusters(NamedTuple):
    """The clusters that ART's activation clustering finds in one class."""

    numbers: NDArray[np.int64]
    """The cluster, 0 or 1, of every example (n,)."""
    reduced: Features
    """The features that were clustered (n, components)."""


def activation_clusters(features: Features, *, components: int, seed: int) -> Clusters:
    """Returns the features of one class in two clusters, by principal components and k-means.

    ART's rules "relative-size" and "silhouette-scores", which choose the poisoned cluster, fail with NumPy 2.4 where a
    class has no suspicious cluster. So the detector has its own rule.
    """
    from art.defences.detector.poison.activation_defence import cluster_activations

    with global_seed(seed):
        [numbers], [reduced] = cluster_activations([features], nb_clusters=2, nb_dims=components, reduce="PCA")
    return Clusters(numbers, reduced)


def spectral_signatures(
    features: Features, labels: Labels, *, expected_rate: float, multiplier: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns ART's outlier scores and suspicious flags, both (N,); labels are consecutive from 0.

    The features of each class must be centred: ART's score omits the paper's subtraction of the mean.
    """
    from art.defences.detector.poison import SpectralSignatureDefense

    defence = SpectralSignatureDefense(
        _reader(features, labels),
        features,
        labels,
        expected_pp_poison=expected_rate,
        eps_multiplier=multiplier,
    )
    scores = np.zeros(len(features), dtype=np.float32)
    for label in np.unique(labels):
        scores[labels == label] = defence.spectral_signature_scores(features[labels == label])[:, 0]
    return scores, np.array(defence.detect_poison()[1]) == 0


def _probe(model: nn.Module, x: Images) -> nn.Module:
    from harness.poisoning.features import FeatureProbe

    duplicate = copy.deepcopy(model)
    return FeatureProbe(duplicate, torch.from_numpy(x[:1]).to(next(duplicate.parameters()).device))


def _reader(features: Features, labels: Labels) -> Any:
    """Returns a classifier of ART whose last hidden layer returns its input, the features."""
    return _classifier(torch.nn.Sequential(torch.nn.Identity()), features, classes=int(labels.max()) + 1)


def _classifier(model: nn.Module, x: NDArray[np.float32], *, classes: int) -> Any:
    """Returns ART's classifier around a network, which ART may change."""
    from art.estimators.classification import PyTorchClassifier

    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    return PyTorchClassifier(
        model.eval().requires_grad_(True),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=x.shape[1:],
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu" if on_cpu else "gpu",
    )


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Replaces a global of a module inside the block: no argument turns off what ART prints and its progress bars."""
    before = vars(module).get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(module, name)
        else:
            setattr(module, name, before)
