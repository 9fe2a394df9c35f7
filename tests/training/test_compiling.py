import logging

import pytest
import torch
from torch import nn

from harness.training.compiling import compiled
from tests.training.cases import classifier, copied, dropout_convnet, recipe, same_state, trained

X = torch.rand(4, 3, 8, 8)


def broken(*_: object, **__: object) -> object:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no working C++ compiler\nwith many lines of detail")

    return fail


def test_failing_compiler_falls_back_with_one_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    model = dropout_convnet()
    with caplog.at_level(logging.WARNING):
        assert compiled(model, X) is model
    assert [record.getMessage() for record in caplog.records] == [
        "torch.compile is off, as it fails here: RuntimeError: no working C++ compiler"
    ]


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


def test_trial_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network: network)
    model = dropout_convnet().train()
    state, generator = copied(model.state_dict()), torch.get_rng_state()
    compiled(model, X)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.slow
def test_compiled_training_gives_nearly_the_same_losses() -> None:
    histories = [trained(classifier(nn.Sequential(*plain())), recipe("pgd", compile=choice)).history for choice in (False, True)]
    losses = [[row["train_loss"] for row in history] for history in histories]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def plain() -> list[nn.Module]:
    return [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10)]
