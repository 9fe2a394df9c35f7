from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.datasets.base import DATASETS
from harness.images import ImageData
from harness.models.base import MODELS
from harness.models.classifier import Classifier
from harness.steps.base import Context, DataIdentity
from harness.steps.train import WEIGHTS, Train
from harness.storage.store import Store
from harness.training.history import TrainingResult
from harness.training.recipes.base import RECIPES

DATASET = DATASETS.parse({"name": "digits", "resolution": 8})
RESULT = TrainingResult(history=(), best_epoch=1, summary={})


def step(data: ImageData, *, dropout: float, warm_start: Train | None = None) -> Train:
    return Train(
        label="mine",
        architecture=MODELS.parse({"name": "timm", "arch": "test_efficientnet", "arguments": {"drop_rate": dropout}}),
        recipe=RECIPES.parse({"name": "standard", "epochs": 1}),
        data=DataIdentity.of(DATASET, data),
        resolution=8,
        seed=0,
        warm_start=warm_start,
    )


def test_warm_start_takes_the_weights_of_another_training_and_keeps_its_own_dropout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DATASET.load()
    context = Context(store=Store(tmp_path), data=data, device=torch.device("cpu"))
    started: list[Classifier] = []
    monkeypatch.setattr(
        "harness.training.parallel.train_on_devices", lambda _, model, *__, **___: started.append(model) or RESULT
    )
    parent = step(data, dropout=0.5)
    child = step(data, dropout=0.0, warm_start=parent)
    for training in (parent, child):
        with context.store.writing(training.KIND, training.digest, {}) as folder:
            training.run(context, folder)
    weights = load_file(context.folder(parent) / WEIGHTS)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in started[1].state_dict().items())
    assert [model.backbone.drop_rate for model in started] == [0.5, 0.0]
