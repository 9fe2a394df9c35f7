from pathlib import Path

import pytest
from pydantic import ValidationError
from torch import nn

from harness.errors import ModelError
from harness.models.base import IMAGENET_MEAN, MODELS
from harness.models.factory import Factory

NAMES = ("a", "b", "c")


def scaled(num_classes: int, width: int = 1) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, width), nn.Linear(width, num_classes))


def no_module(num_classes: int) -> str:
    return f"{num_classes} classes"


def one_class_too_many(num_classes: int) -> nn.Module:
    return scaled(num_classes + 1)


def build(factory: str, **fields: object) -> nn.Module:
    return Factory(factory=factory, **fields).build(NAMES, resolution=8, seed=0)


def test_callable_is_given_the_class_count_and_the_arguments() -> None:
    model = build(f"{__name__}:scaled", arguments={"width": 7})
    assert model.backbone[1].out_features == 7
    assert model.backbone[2].out_features == 3


def test_normalisation_is_imagenets_unless_given() -> None:
    assert build(f"{__name__}:scaled").mean.flatten().tolist() == pytest.approx(list(IMAGENET_MEAN))


def test_arch_shown_in_tables_is_the_factory() -> None:
    assert MODELS.parse({"name": "factory", "factory": "a.b:c"}).arch == "a.b:c"
    assert Factory(factory="a.b:c", arch="mine").arch == "mine"


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        ("no_such_package.nets:small", "cannot be imported: No module named 'no_such_package'"),
        (f"{__name__}:absent", "cannot be imported: .*absent"),
        (f"{__name__}:NAMES", "to be callable, got tuple"),
        (f"{__name__}:no_module", "to return a torch.nn.Module, got str"),
        (f"{__name__}:one_class_too_many", r"expected logits of shape \(2, 3\) for two images, got \(2, 4\)"),
    ],
)
def test_factory_that_gives_no_classifier_is_an_error(factory: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        build(factory)


def test_module_that_fails_on_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_half_written.py").write_text("def small(")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"factory: nets_half_written:small cannot be imported: SyntaxError: .*line 1"):
        Factory(factory="nets_half_written:small").find()


def test_factory_without_a_colon_is_refused() -> None:
    with pytest.raises(ValidationError, match="factory"):
        Factory(factory="package.module.callable")
