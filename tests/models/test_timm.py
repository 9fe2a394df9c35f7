from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError

from harness.errors import ModelError
from harness.models.base import IMAGENET_MEAN, MODELS
from harness.models.timm import Timm

NAMES = ("a", "b", "c")


def test_any_timm_name_is_wrapped_as_a_classifier_in_eval_mode() -> None:
    model = Timm(arch="test_resnet").build(NAMES, resolution=32, seed=0)
    assert not model.training
    assert model(torch.rand(4, 3, 32, 32)).shape == (4, 3)
    assert model.class_names == NAMES


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    def weights(seed: int) -> torch.Tensor:
        return Timm(arch="test_resnet").build(NAMES, resolution=32, seed=seed).backbone.state_dict()["fc.weight"]

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    Timm(arch="test_resnet").build(NAMES, resolution=32, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match="timm has no model 'efficientnet_bo'; did you mean efficientnet_b"):
        Timm(arch="efficientnet_bo").build(NAMES, resolution=32, seed=0)


def test_names_that_reach_beyond_timm_are_unknown() -> None:
    with pytest.raises(ModelError, match="timm has no model 'hf-hub:someone/something'"):
        Timm(arch="hf-hub:someone/something").build(NAMES, resolution=32, seed=0)


def test_failed_download_says_to_name_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise FileNotFoundError("cannot reach the hub\nmore")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError, match=r"cannot be downloaded \(cannot reach the hub\); name a file of weights"):
        Timm(arch="test_resnet", pretrained=True).build(NAMES, resolution=32, seed=0)


def test_normalisation_is_timms_own_unless_given() -> None:
    stated = Timm(arch="tf_efficientnet_lite0").build(NAMES, resolution=32, seed=0)
    assert stated.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    given = Timm(arch="test_resnet", mean=(0.1, 0.2, 0.3), std=(1, 1, 1)).build(NAMES, resolution=32, seed=0)
    assert given.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_size_the_network_cannot_take_is_named() -> None:
    with pytest.raises(ModelError, match="vit_tiny_patch16_224: a forward pass of two images of 32 x 32 failed"):
        Timm(arch="vit_tiny_patch16_224").build(NAMES, resolution=32, seed=0)
    assert Timm(arch="vit_tiny_patch16_224", arguments={"img_size": 32}).build(NAMES, resolution=32, seed=0).num_classes == 3


def test_argument_timm_does_not_know_is_named() -> None:
    with pytest.raises(ModelError, match=r"test_resnet: timm cannot build it: .*depht"):
        Timm(arch="test_resnet", arguments={"depht": 3}).build(NAMES, resolution=32, seed=0)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"pretrained": True, "weights": "a.pth"}, "expected one of them, got both"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean and std: expected both or neither"),
        ({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0, 0.5)}, "greater than 0"),
        ({"arguments": {"num_classes": 3}}, "got num_classes"),
    ],
)
def test_contradictory_fields_are_errors(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Timm(arch="test_resnet", **fields)


def test_identity_holds_the_hash_of_the_weights_instead_of_their_place(tmp_path: Path) -> None:
    (tmp_path / "one.pth").write_bytes(b"weights")
    (tmp_path / "two.pth").write_bytes(b"weights")
    one, two = (Timm(arch="test_resnet", weights=str(tmp_path / name)).identity() for name in ("one.pth", "two.pth"))
    assert one == two
    assert "weights" not in one


def test_architecture_without_weights_is_built_untrained(tmp_path: Path) -> None:
    bare = Timm(arch="test_resnet", weights=str(tmp_path / "gone.pth")).without_weights()
    assert bare.build(NAMES, resolution=32, seed=0).num_classes == 3


def test_plugin_is_found_by_name() -> None:
    assert MODELS.get("timm") is Timm
    assert MODELS.parse({"name": "timm", "arch": "test_resnet"}) == Timm(arch="test_resnet")


def test_foreign_weights_get_a_new_head(warm_start_weights: Path) -> None:
    spec = Timm(arch="efficientnet_b0", weights=str(warm_start_weights), mean=(0.5,) * 3, std=(0.5,) * 3)
    model = spec.build(NAMES, resolution=32, seed=0)
    source = timm.create_model("efficientnet_b0")
    assert model.backbone.classifier.weight.shape == (3, 1280)
    assert not torch.equal(model.backbone.conv_stem.weight, source.conv_stem.weight)
    assert model.mean.flatten().tolist() != list(IMAGENET_MEAN)


def test_weights_of_another_architecture_name_file_and_differences(warm_start_weights: Path) -> None:
    with pytest.raises(ModelError, match=r"test_resnet: the weights in .*warmstart.safetensors do not fit: \d+ missing"):
        Timm(arch="test_resnet", weights=str(warm_start_weights)).build(NAMES, resolution=32, seed=0)
