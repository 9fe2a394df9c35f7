import logging

import pytest
import torch
from torch import nn

from tests.compilers import broken
from tests.training.cases import classifier, recipe, same_state, trained


@pytest.mark.parametrize("fields", [{}, {"distil": 0.5}])
def test_training_goes_on_without_a_compiler_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fields: dict[str, float]
) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    plain, fallen_back = classifier(), classifier()
    trained(plain, recipe("pgd", epochs=1, **fields))
    with caplog.at_level(logging.WARNING):
        trained(fallen_back, recipe("pgd", epochs=1, compile=True, **fields))
    assert same_state(plain, fallen_back)
    assert len([record for record in caplog.records if "torch.compile is off" in record.getMessage()]) == 1


@pytest.mark.slow
def test_compiled_training_gives_nearly_the_same_losses() -> None:
    histories = [trained(classifier(nn.Sequential(*plain())), recipe("pgd", compile=choice)).history for choice in (False, True)]
    losses = [[row["train_loss"] for row in history] for history in histories]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def plain() -> list[nn.Module]:
    return [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10)]
