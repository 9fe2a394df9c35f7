"""Weights that say where they come from, loaded into a network that is not that one."""

import logging
from pathlib import Path

import pytest
import torch

from harness.errors import ModelError
from harness.models.classifier import Classifier
from harness.models.factory import Factory
from harness.models.h5 import save_h5
from harness.models.timm import Timm, load_h5

ARCH = "tests.nets:small_convnet"
NAMES = ("carrot", "leek", "tomato")
HEAD = "8.weight"


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return Factory(factory=ARCH).build(NAMES, resolution=16, seed=3)


@pytest.fixture
def weights(trained: Classifier, tmp_path: Path) -> Path:
    save_h5(trained, tmp_path / "model.h5", arch=ARCH, resolution=16, summary={})
    return tmp_path / "model.h5"


def filled(weights: Path, names: tuple[str, ...], **fields: object) -> dict[str, torch.Tensor]:
    spec = Factory(factory=ARCH, weights=str(weights), **fields)
    return spec.build(names, resolution=16, seed=5).backbone.state_dict()


def test_same_classes_in_another_order_are_refused(weights: Path) -> None:
    with pytest.raises(ModelError, match=r"model.h5 do not fit: .* another order: expected class 1 to be tomato, got leek"):
        filled(weights, ("carrot", "tomato", "leek"))


@pytest.mark.parametrize("names", [("carrot", "leek", "pear"), ("carrot", "leek", "tomato", "pear")])
def test_head_of_other_classes_is_new_and_the_classes_are_named(
    trained: Classifier, weights: Path, names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        state = filled(weights, names)
    expected = trained.backbone.state_dict()
    assert torch.equal(state["0.weight"], expected["0.weight"])
    assert not torch.equal(state[HEAD][:3], expected[HEAD])
    assert "it names other classes: not in it (pear), not here (" in caplog.text
    assert "the head is new" in caplog.text


def test_same_classes_keep_their_head_without_a_word(
    trained: Classifier, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert torch.equal(filled(weights, NAMES)[HEAD], trained.backbone.state_dict()[HEAD])
    assert not caplog.records


def test_weights_of_another_architecture_are_refused_although_they_fit(weights: Path) -> None:
    with pytest.raises(ModelError, match=rf"model.h5 do not fit: expected weights of mine, got some of {ARCH}"):
        filled(weights, NAMES, arch="mine")


def test_tag_of_the_weights_is_no_other_architecture(tmp_path: Path) -> None:
    one = Timm(arch="test_efficientnet").build(NAMES, resolution=32, seed=0)
    save_h5(one, tmp_path / "model.h5", arch="test_efficientnet", resolution=32, summary={})
    tagged = Timm(arch="test_efficientnet.r160_in1k", weights=str(tmp_path / "model.h5"))
    assert torch.equal(tagged.build(NAMES, resolution=32, seed=1)(torch.ones(1, 3, 32, 32)), one(torch.ones(1, 3, 32, 32)))


def test_other_arguments_are_named(trained: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_h5(trained, tmp_path / "model.h5", arch=ARCH, resolution=16, summary={}, arguments={"width": 4})
    with caplog.at_level(logging.WARNING):
        filled(tmp_path / "model.h5", NAMES)
    assert "its network was built with {'width': 4}, this one with {}" in caplog.text


@pytest.mark.parametrize(("value", "problem"), [(float("nan"), r"1 with NaN \(0.weight\)"), (3e38, "expected finite logits")])
def test_weights_that_give_no_finite_logits_are_refused(tmp_path: Path, value: float, problem: str) -> None:
    broken = Factory(factory=ARCH).build(NAMES, resolution=16, seed=3)
    with torch.no_grad():
        broken.backbone[0].weight.fill_(value)
    save_h5(broken, tmp_path / "model.h5", arch=ARCH, resolution=16, summary={})
    with pytest.raises(ModelError, match=problem):
        filled(tmp_path / "model.h5", NAMES)


def test_nan_in_a_file_is_refused_by_whoever_reads_it_back(tmp_path: Path) -> None:
    broken = Timm(arch="test_efficientnet").build(NAMES, resolution=32, seed=0)
    with torch.no_grad():
        broken.backbone.classifier.bias.fill_(float("nan"))
    save_h5(broken, tmp_path / "model.h5", arch="test_efficientnet", resolution=32, summary={})
    with pytest.raises(ModelError, match=r"model.h5: .*1 with NaN \(classifier.bias\)"):
        load_h5(tmp_path / "model.h5")
