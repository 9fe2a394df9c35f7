import pytest
import torch

from harness.errors import HarnessError
from harness.running.workspace import resolve_device


def test_missing_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch, "empty", _refuse)
    with pytest.raises(
        HarnessError, match="device: expected auto, cpu, or a device of this machine, got 'cuda:1', and no CUDA GPU"
    ):
        resolve_device("cuda:1")


def test_gpu_that_is_not_there_is_answered_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", _refuse)
    with pytest.raises(HarnessError, match=r"got 'cuda:7', and the CUDA GPUs found are cuda:0, cuda:1$"):
        resolve_device("cuda:7")


@pytest.mark.parametrize("name", ["meta", "quantum", "", "cpu:x"])
def test_device_that_computes_nothing_is_refused(name: str) -> None:
    with pytest.raises(HarnessError, match=f"device: expected auto, cpu, or a device of this machine, got '{name}'$"):
        resolve_device(name)


def _refuse(*_: object, **__: object) -> None:
    raise RuntimeError("no such device")
