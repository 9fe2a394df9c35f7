"""Devices and threads without PyTorch's import, against PyTorch's own word."""

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from harness.storage.provenance import INITIAL_FLAGS
from harness.system import device, remembered
from harness.system.device import DeviceField

FIELD = DeviceField()


@dataclass(frozen=True)
class Holder:
    device: DeviceField = FIELD
    number: int = 0


@pytest.mark.parametrize("given", ["cpu", torch.device("cpu")])
def test_field_gives_a_device_and_keeps_what_it_was_given(given: str | torch.device) -> None:
    holder = Holder(given)
    for found in (holder, replace(holder, number=1), pickle.loads(pickle.dumps(holder))):  # noqa: S301
        assert found.device == torch.device("cpu")
    assert FIELD.given(holder) is given


def test_field_has_no_default() -> None:
    with pytest.raises(TypeError, match="device"):
        Holder(number=1)


@pytest.mark.parametrize("override", [None, "0", "1"])
def test_flags_without_pytorch_are_those_that_it_begins_with(override: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", raising=False)
    if override is not None:
        monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", override)
    script = (
        "import json, sys; from harness.storage.provenance import describe_host; host = describe_host('cpu'); "
        "before = 'torch' in sys.modules; import torch; true = describe_host(torch.device('cpu')); "
        "print(json.dumps([before, host, true]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported, host, true = json.loads(done.stdout)
    assert imported == (override is not None)
    assert {name: value for name, value in host.items() if name != "created"} == {
        name: value for name, value in true.items() if name != "created"
    }
    assert INITIAL_FLAGS.keys() <= true.keys()


def test_threads_are_asked_of_the_library_once_for_the_same_machine_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def library(name: str) -> SimpleNamespace:
        asked.append(name)
        return SimpleNamespace(**{device.THREADS: lambda: 3})

    monkeypatch.setattr(device.ctypes, "CDLL", library)
    monkeypatch.setattr(device.sys, "modules", {name: module for name, module in sys.modules.items() if name != "torch"})
    monkeypatch.setattr(remembered, "_known", {})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (device.torch_threads(), device.torch_threads(), len(asked)) == (3, 3, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    device.torch_threads()
    assert len(asked) == 2


def test_threads_are_those_of_pytorch_where_it_is_imported() -> None:
    assert device.torch_threads() == torch.get_num_threads()
