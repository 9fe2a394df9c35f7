"""Small data, nets and recipes for the tests of training."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from harness.datasets.build import image_data
from harness.datasets.tensors import TensorSplit
from harness.images import ImageData
from harness.models.classifier import Classifier
from harness.system.progress import Progress, Silent
from harness.training.history import TrainingResult
from harness.training.loop import train
from harness.training.processes import Processes
from harness.training.recipes.base import RECIPES, Recipe
from tests.nets import small_convnet

CPU = torch.device("cpu")
STILL = {"flip": False, "rotation": 0, "translation": 0, "scale": 0}
"""No augmentation."""


@cache
def digits(train_count: int = 160, validation_count: int = 60) -> ImageData:
    """Handwritten digits of 8 x 8 pixels; there is no test split to be read."""
    source = load_digits()
    images = (torch.from_numpy(source.images).float() / 16)[:, None].expand(-1, 3, -1, -1)

    def part(start: int, stop: int) -> TensorSplit:
        ids = [str(index) for index in range(start, stop)]
        return TensorSplit(images[start:stop].contiguous(), source.target[start:stop], ids=ids)

    end = train_count + validation_count
    splits = {"train": part(0, train_count), "validation": part(train_count, end), "test": part(end, end + 10)}
    data = image_data("digits", [str(digit) for digit in range(10)], splits)
    return ImageData(
        data.name,
        data.class_names,
        {name: splits[name] for name in ("train", "validation")},
        data.content_hash,
        data.cross_split_duplicates,
    )


def plain_convnet(num_classes: int = 10) -> nn.Module:
    """No batch norm and no dropout: what it does with an image depends on no other image."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, num_classes)
    )


def dropout_convnet(num_classes: int = 10) -> nn.Module:
    """Batch norm and dropout."""
    return nn.Sequential(*list(small_convnet(num_classes))[:-1], nn.Dropout(0.3), nn.Linear(128, num_classes))


def classifier(backbone: nn.Module | None = None, *, seed: int = 0) -> Classifier:
    """Wraps a network, by default a small one with batch norm, with weights that depend on the seed alone."""
    network = small_convnet(10) if backbone is None else backbone
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight, generator=generator)
        elif weight.ndim == 1:
            nn.init.uniform_(weight, 0.1, 0.5, generator=generator)
    return Classifier(network, mean=[0.3] * 3, std=[0.4] * 3, class_names=[str(digit) for digit in range(10)]).eval()


def recipe(name: str = "standard", **fields: object) -> Recipe:
    """Returns a recipe of three epochs, without augmentation."""
    defaults: Mapping[str, object] = {"epochs": 3, "batch_size": 32, "augment": STILL, "optimiser": {"learning_rate": 0.01}}
    short = {"pgd": {"steps": 2}, "trades": {"steps": 2}}.get(name, {})
    adversarial = {} if name == "standard" else {"eps": "16/255", "validation_steps": 2}
    return RECIPES.parse({"name": name, **defaults, **short, **adversarial, **fields})


def trained(
    model: Classifier,
    chosen: Recipe,
    *,
    data: ImageData | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    processes: Processes | None = None,
    workers: int = 0,
) -> TrainingResult:
    """Trains on the CPU."""
    return train(
        model,
        data or digits(),
        chosen,
        seed=seed,
        device=CPU,
        workers=workers,
        checkpoint=checkpoint,
        progress=progress or Silent(),
        processes=processes,
    )


def same_state(one: nn.Module, other: nn.Module) -> bool:
    """Returns whether two networks have bit-equal states."""
    expected, found = one.state_dict(), other.state_dict()
    return expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state that later changes leave alone."""
    return {name: tensor.clone() for name, tensor in state.items()}
