import os
import pickle
import zipfile
from pathlib import Path

import h5py
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from harness.errors import ModelError
from harness.models.classifier import Classifier
from harness.models.factory import Factory
from harness.models.h5 import read_h5, save_h5
from harness.models.timm import Timm, load_h5
from harness.models.weights import read_weights, save_pth, save_safetensors
from tests.nets import small_convnet

NAMES = ("carrot", "leek", "Grünkohl")
ARCH = "test_efficientnet"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Timm(arch=ARCH, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3)).build(NAMES, resolution=32, seed=3)


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    expected, found = one.state_dict(), other.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


class Hostile:
    """Touches a file when it is unpickled by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_h5_gives_the_classifier_back_bit_equal(classifier: Classifier, tmp_path: Path) -> None:
    save_h5(classifier, tmp_path / "model.h5", arch=ARCH, resolution=32, summary={"best_epoch": 4})
    again = load_h5(tmp_path / "model.h5")
    assert_same_state(classifier, again)
    assert again.class_names == NAMES
    assert not again.training


def test_h5_says_how_the_model_was_trained_and_is_fed(classifier: Classifier, tmp_path: Path) -> None:
    save_h5(classifier, tmp_path / "model.h5", arch=ARCH, resolution=32, summary={"best_epoch": 4, "flag": None})
    saved = read_h5(tmp_path / "model.h5")
    assert (saved.arch, saved.resolution, saved.resize) == (ARCH, 32, "squash")
    assert saved.mean == pytest.approx((0.4, 0.5, 0.6))
    assert saved.summary == {"best_epoch": 4, "flag": None}


def test_h5_of_a_users_own_network_is_not_built_from_the_name_in_the_file(tmp_path: Path) -> None:
    own = Factory(factory="tests.nets:small_convnet").build(NAMES, resolution=32, seed=0)
    save_h5(own, tmp_path / "model.h5", arch="tests.nets:small_convnet", resolution=32, summary={})
    with pytest.raises(ModelError, match=r"expected one of timm's architectures, got 'tests.nets:small_convnet'"):
        load_h5(tmp_path / "model.h5")
    again = Factory(factory="tests.nets:small_convnet", weights=str(tmp_path / "model.h5"))
    assert_same_state(own, again.build(NAMES, resolution=32, seed=1))


@pytest.mark.parametrize("arguments", [{"act_layer": "relu"}, {"global_pool": "max"}, {"bn_eps": 0.1}])
def test_h5_gives_back_a_network_built_with_further_arguments(tmp_path: Path, arguments: dict[str, object]) -> None:
    built = Timm(arch=ARCH, arguments=arguments).build(NAMES, resolution=32, seed=3)
    save_h5(built, tmp_path / "model.h5", arch=ARCH, resolution=32, summary={}, builder="timm", arguments=arguments)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_h5(tmp_path / "model.h5")(x), built(x))


@pytest.mark.parametrize("value", [nn.ReLU, (64, 64), float("nan")])
def test_arguments_that_no_h5_file_can_hold_are_refused_before_it_is_written(
    classifier: Classifier, tmp_path: Path, value: object
) -> None:
    with pytest.raises(ModelError, match=r"arguments.*: expected plain JSON values"):
        save_h5(classifier, tmp_path / "model.h5", arch=ARCH, resolution=32, summary={}, arguments={"x": value})
    assert not list(tmp_path.iterdir())


def test_arguments_in_a_file_name_no_other_file_of_weights(classifier: Classifier, tmp_path: Path) -> None:
    arguments = {"checkpoint_path": "other.pth"}
    save_h5(classifier, tmp_path / "model.h5", arch=ARCH, resolution=32, summary={}, arguments=arguments)
    with pytest.raises(ModelError, match=r"model.h5: .*arguments: expected none of .*, got checkpoint_path"):
        load_h5(tmp_path / "model.h5")


def test_h5_of_a_users_own_network_that_is_called_like_one_of_timms_is_not_built(classifier: Classifier, tmp_path: Path) -> None:
    save_h5(classifier, tmp_path / "model.h5", arch=ARCH, resolution=32, summary={}, builder="factory")
    with pytest.raises(ModelError, match=r"expected one of timm's architectures, got 'test_efficientnet' built by factory"):
        load_h5(tmp_path / "model.h5")


def test_pth_loads_into_timm_with_weights_only(classifier: Classifier, tmp_path: Path) -> None:
    save_pth(classifier, tmp_path / "model.pth")
    backbone = Timm(arch=ARCH).backbone(num_classes=3)
    backbone.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    assert_same_state(classifier.backbone, backbone)


@pytest.mark.parametrize("suffix", [".safetensors", ".h5"])
def test_normalisation_travels_with_the_weights(classifier: Classifier, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".h5":
        save_h5(classifier, path, arch=ARCH, resolution=32, summary={})
    else:
        save_safetensors(classifier, path)
    assert_same_state(classifier, Timm(arch=ARCH, weights=str(path)).build(NAMES, resolution=32, seed=8))


def test_memory_format_of_the_network_does_not_matter(classifier: Classifier, tmp_path: Path) -> None:
    other = Timm(arch=ARCH).build(NAMES, resolution=32, seed=5).to(memory_format=torch.channels_last)
    save_safetensors(other, tmp_path / "model.safetensors")
    save_pth(other, tmp_path / "model.pth")
    for path in tmp_path.iterdir():
        assert_same_state(other.backbone, Timm(arch=ARCH, weights=str(path)).build(NAMES, resolution=32, seed=0).backbone)


def test_state_dict_nested_by_a_trainer_is_found(tmp_path: Path) -> None:
    state = small_convnet(4).state_dict()
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "checkpoint.pth")
    assert read_weights(tmp_path / "checkpoint.pth").keys() == state.keys()


def test_hostile_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weight": Hostile(tmp_path / "executed")}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"weight": Hostile(tmp_path / "executed")}))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(ModelError, match="nothing was run"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".h5"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_file_is_an_error(classifier: Classifier, tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".h5":
        save_h5(classifier, path, arch=ARCH, resolution=32, summary={})
    else:
        (save_pth if suffix == ".pth" else save_safetensors)(classifier, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match=f"model{suffix}"):
        read_weights(path)


def test_missing_file_and_unknown_format_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found none"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(ModelError, match=r"ending in .safetensors, .pth, .pt, .h5, got '.onnx'"):
        read_weights(tmp_path / "model.onnx")


def test_pth_without_a_state_dict_is_an_error(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="expected a state dict of named tensors, found list"):
        read_weights(tmp_path / "list.pth")


def test_safetensors_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not at all" * 50)
    with pytest.raises(ModelError, match="expected a complete safetensors file"):
        read_weights(tmp_path / "model.safetensors")


def test_h5_of_another_layout_or_version_is_an_error(tmp_path: Path, classifier: Classifier) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["model_weights"] = [1.0]
    save_h5(classifier, tmp_path / "newer.h5", arch=ARCH, resolution=32, summary={})
    with h5py.File(tmp_path / "newer.h5", "a") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(ModelError, match="expected a classifier in HDF5, schema version 1"):
        read_weights(tmp_path / "other.h5")
    with pytest.raises(ModelError, match="found schema version 99"):
        read_weights(tmp_path / "newer.h5")


def test_h5_does_not_follow_links_into_other_files(classifier: Classifier, tmp_path: Path) -> None:
    save_h5(classifier, tmp_path / "model.h5", arch=ARCH, resolution=32, summary={})
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["key"] = [1.0]
    with h5py.File(tmp_path / "model.h5", "a") as file:
        file["weights/stolen"] = h5py.ExternalLink("secret.h5", "/key")
    assert "stolen" not in read_weights(tmp_path / "model.h5")


@pytest.mark.parametrize("name", ["weights/stolen", "class_names"])
def test_h5_does_not_read_virtual_data_sets_of_other_files(classifier: Classifier, tmp_path: Path, name: str) -> None:
    save_h5(classifier, tmp_path / "model.h5", arch=ARCH, resolution=32, summary={})
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["key"] = [b"1"]
    layout = h5py.VirtualLayout(shape=(1,), dtype="S1")
    layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "key", shape=(1,))
    with h5py.File(tmp_path / "model.h5", "a") as file:
        if name in file:
            del file[name]
        file.create_virtual_dataset(name, layout)
    with pytest.raises(ModelError, match=f"model.h5: .*{name} in another file"):
        read_h5(tmp_path / "model.h5")


@pytest.mark.parametrize("name", ["weights", "class_names"])
def test_h5_whose_parts_are_links_into_other_files_is_an_error(classifier: Classifier, tmp_path: Path, name: str) -> None:
    for file in ("model.h5", "secret.h5"):
        save_h5(classifier, tmp_path / file, arch=ARCH, resolution=32, summary={})
    with h5py.File(tmp_path / "model.h5", "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink("secret.h5", f"/{name}")
    with pytest.raises(ModelError, match=f"model.h5: .*no {name} of its own"):
        read_h5(tmp_path / "model.h5")


def test_flipped_byte_in_a_tensor_is_an_error(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    save_h5(classifier, path, arch=ARCH, resolution=32, summary={})
    content = bytearray(path.read_bytes())
    place = content.find(classifier.backbone.classifier.weight.detach().numpy().tobytes()[:64])
    content[place + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model.h5: expected a classifier in HDF5"):
        read_weights(path)


def test_failed_write_leaves_the_old_file(classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"old": torch.zeros(1)}, tmp_path / "model.safetensors")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("harness.models.weights.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_safetensors(classifier, tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert read_weights(tmp_path / "model.safetensors").keys() == {"old"}


def test_pth_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert read_weights(tmp_path / "plain.pth")
    with pytest.raises(ModelError, match=r"uncompressed, found 4,\d{3},\d{3} bytes in a file of"):
        read_weights(tmp_path / "packed.pth")


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        (torch.zeros(1).expand(2**40), "of the 4 bytes that are stored"),
        (torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (2**20, 2**20)), "torch.sparse_coo"),
        (torch.empty(2**40, device="meta"), "on meta"),
    ],
)
def test_tensor_that_declares_more_than_is_stored_is_refused(tensor: torch.Tensor, found: str, tmp_path: Path) -> None:
    torch.save({"weight": tensor}, tmp_path / "model.pth")
    with pytest.raises(ModelError, match=f"'weight': expected a .*{found}"):
        read_weights(tmp_path / "model.pth")


def test_tensors_that_share_their_values_are_read(tmp_path: Path) -> None:
    weight = torch.rand(4, 3)
    torch.save({"weight": weight, "tied": weight, "transposed": weight.T}, tmp_path / "model.pth")
    assert torch.equal(read_weights(tmp_path / "model.pth")["tied"], weight)
