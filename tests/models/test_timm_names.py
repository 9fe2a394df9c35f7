from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import timm

from harness.models import timm_names
from harness.models.timm import Timm
from harness.models.timm_names import defined_names, is_known


def test_names_in_the_source_are_those_that_timm_registers() -> None:
    assert len(defined_names()) > 1000
    assert set(timm.list_models()) <= defined_names()
    assert all(map(timm.is_model, defined_names()))


def test_tag_of_the_weights_does_not_count() -> None:
    assert is_known("resnet18.a1_in1k")
    assert is_known("resnet18")
    assert not is_known("resnet81.a1_in1k")
    assert not is_known("")


def test_architecture_is_found_through_timm_where_its_source_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = ModuleSpec("timm", None, is_package=True)
    empty.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(timm_names, "find_spec", lambda name: empty)
    defined_names.cache_clear()
    try:
        assert not is_known("resnet18")
        Timm(arch="resnet18").find()
    finally:
        defined_names.cache_clear()


def test_name_that_timm_keeps_for_old_users_is_found() -> None:
    old = next(name for name in ("vit_tiny_patch16_224_in21k", "tv_resnet34", "efficientnet_b3a") if timm.is_model(name))
    assert not is_known(old)
    Timm(arch=old).find()
