import os

import pytest
import torch
from torch import nn

from harness.errors import HarnessError
from harness.training.parallel import train_on_devices
from tests.training.cases import CPU, classifier, digits, plain_convnet, recipe, trained

pytestmark = pytest.mark.slow


class Recorder:
    """A progress display that keeps what it is told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.done = 0.0

    def task(self, title: str, total: float) -> "Recorder":
        self.titles.append(f"{title} {total:g}")
        return self

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.titles.append("end")

    def __call__(self, amount: float, note: str) -> None:
        self.done += amount


@pytest.mark.parametrize("name", ["standard", "pgd"])
def test_two_processes_learn_what_one_learns_from_the_whole_batch(name: str) -> None:
    fields = {"random_start": False, "awp": 0.005} if name == "pgd" else {"ema": 0.9}
    chosen = recipe(name, batch_size=33, optimiser={"name": "sgd", "learning_rate": 0.05}, **fields)
    one, two = classifier(plain_convnet()), classifier(plain_convnet())
    expected, progress = trained(one, chosen), Recorder()
    found = train_on_devices(two, digits(), chosen, devices=2, seed=0, device=CPU, workers=0, checkpoint=None, progress=progress)
    for column in ("train_loss", "train_accuracy", "validation_loss"):
        assert [row[column] for row in found.history] == pytest.approx([row[column] for row in expected.history], rel=1e-3)
    for weight, other in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-2, atol=1e-4)
    assert progress.titles == [f"train {name} 15", "end"]
    assert progress.done == 15
    assert "MASTER_PORT" not in os.environ


def test_error_in_a_process_is_told_in_one_line() -> None:
    model = classifier(plain_convnet())
    nn.init.constant_(model.backbone[0].bias, torch.nan)
    with pytest.raises(HarnessError, match=r"^on 2 devices: standard: epoch 1, batch 1 of 5: expected a finite loss, got nan"):
        train_on_devices(
            model, digits(), recipe(), devices=2, seed=0, device=CPU, workers=0, checkpoint=None, progress=Recorder()
        )
