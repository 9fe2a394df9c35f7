"""A module that is imported when it is first used is in all else the module itself."""

import subprocess
import sys

import pytest
import torch as real

from harness.system.lazy import LazyModule, torch, transforms


def test_lazy_module_gives_the_attributes_of_the_module() -> None:
    assert torch.Tensor is real.Tensor
    assert torch.nn.functional is real.nn.functional
    assert isinstance(real.zeros(1), torch.Tensor)
    assert transforms.InterpolationMode.BILINEAR.value == "bilinear"


def test_lazy_module_sees_what_replaces_an_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(real, "rand", lambda *_: "replaced")
        assert torch.rand(1) == "replaced"
        patch.setattr(torch, "rand", lambda *_: "replaced for those who use the lazy one")
        assert torch.rand(1) == "replaced for those who use the lazy one"
    assert torch.rand is real.rand


def test_lazy_module_without_such_an_attribute_or_file_says_so() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = torch.no_such_name
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        _ = LazyModule("no_such_library").anything


def test_library_is_imported_by_the_first_use_and_not_before() -> None:
    script = (
        "import sys; from harness.system.lazy import torch; before = 'torch' in sys.modules; "
        "torch.float32; print(before, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
