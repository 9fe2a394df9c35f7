import os
import sys
from multiprocessing import active_children
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from harness.errors import HarnessError
from harness.models.classifier import Classifier
from harness.system.progress import Progress, Silent
from harness.training.checkpoint import FILE
from harness.training.history import TrainingResult
from harness.training.loop import train
from harness.training.parallel import train_on_devices
from harness.training.recipes.base import Recipe
from tests.training.cases import CPU, classifier, digits, plain_convnet, recipe, same_state, trained

slow = pytest.mark.slow


class Recorder:
    """A progress display that keeps what it is told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.done = 0.0

    def task(self, title: str, total: float, unit: str = "") -> "Recorder":
        self.titles.append(f"{title} {total:g}")
        return self

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.titles.append("end")

    def __call__(self, amount: float, note: str) -> None:
        self.done += amount


class Interrupting(Recorder):
    """A progress display that stops a training in its second epoch."""

    def __call__(self, amount: float, note: str) -> None:
        if note.startswith("epoch 2 of"):
            raise KeyboardInterrupt


class Killing(Recorder):
    """A progress display that kills one of the processes."""

    def __call__(self, amount: float, note: str) -> None:
        for process in active_children()[:1]:
            process.kill()


def shared(
    model: Classifier, chosen: Recipe, *, progress: Progress | None = None, checkpoint: Path | None = None
) -> TrainingResult:
    """Trains in two processes."""
    return train_on_devices(
        train,
        model,
        digits(),
        chosen,
        devices=2,
        seed=0,
        device=CPU,
        workers=0,
        checkpoint=checkpoint,
        progress=progress or Silent(),
    )


@slow
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("standard", {"ema": 0.9}),
        ("pgd", {"random_start": False, "awp": 0.005}),
        ("pgd", {"random_start": False, "distil": 0.5}),
    ],
)
def test_two_processes_learn_what_one_learns_from_the_whole_batch(name: str, fields: dict[str, object]) -> None:
    chosen = recipe(name, batch_size=33, optimiser={"name": "sgd", "learning_rate": 0.05}, **fields)
    one, two = classifier(plain_convnet()), classifier(plain_convnet())
    expected, progress = trained(one, chosen), Recorder()
    found = shared(two, chosen, progress=progress)
    for column in ("train_loss", "train_accuracy", "validation_loss"):
        assert [row[column] for row in found.history] == pytest.approx([row[column] for row in expected.history], rel=1e-3)
    for weight, other in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-2, atol=1e-4)
    assert progress.titles == [f"train {name} 15", "end"]
    assert progress.done == 15
    assert "MASTER_PORT" not in os.environ


@slow
def test_error_in_a_process_is_told_in_one_line() -> None:
    model = classifier(plain_convnet())
    nn.init.constant_(model.backbone[0].bias, torch.nan)
    with pytest.raises(HarnessError, match=r"^on 2 devices: standard: epoch 1, batch 1 of 5: expected a finite loss, got nan"):
        shared(model, recipe())


@slow
def test_interrupted_training_leaves_no_process_and_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    chosen = recipe("pgd", ema=0.9)
    straight, resumed = classifier(), classifier()
    expected = shared(straight, chosen)
    with pytest.raises(KeyboardInterrupt):
        shared(classifier(), chosen, progress=Interrupting(), checkpoint=tmp_path)
    assert active_children() == []
    assert (tmp_path / FILE).is_file()
    found = shared(resumed, chosen, checkpoint=tmp_path)
    assert same_state(straight, resumed)
    assert found.best_epoch == expected.best_epoch


@slow
def test_killed_process_ends_the_training_with_one_line() -> None:
    with pytest.raises(HarnessError, match=r"^on 2 devices: .+"):
        shared(classifier(), recipe(), progress=Killing())
    assert active_children() == []


def test_one_device_trains_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.system.children.started", None)
    one, other = classifier(), classifier()
    trained(one, recipe(epochs=1))
    train_on_devices(
        train, other, digits(), recipe(epochs=1), devices=1, seed=0, device=CPU, workers=0, checkpoint=None, progress=Silent()
    )
    assert same_state(one, other)


def test_process_that_dies_while_it_starts_ends_the_training_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text("from harness.system.children import refuse_unguarded\nrefuse_unguarded()\n")
    main = ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    reason = r"^on 2 devices: process \d ended with exit code 78 while it started; a likely cause is a script that does not guard"
    with pytest.raises(HarnessError, match=reason):
        shared(classifier(), recipe())
    assert active_children() == []
