import numpy as np
import onnx
import pytest
import torch

from harness.errors import ModelError
from harness.export.metadata import model_sha256
from harness.export.onnx import _reference, export_deploy, export_model
from harness.export.runtime import OnnxModel

from .conftest import CLASS_NAMES, SIDE, images, pixels, small_classifier


@pytest.mark.parametrize("n", [1, 2, 7])
def test_file_agrees_with_pytorch_at_every_batch_size(n, classifier, model_file):
    x = images(n, seed=n)
    x_adv = (x + 8 / 255 * torch.randn_like(x).sign()).clamp(0, 1)
    for batch in (x, x_adv):
        with torch.no_grad():
            expected = classifier(batch).numpy()
        assert np.abs(OnnxModel(model_file).logits(batch) - expected).max() < 1e-4


def test_export_reports_the_comparison_of_each_sample(exported):
    found = {name: (parity.n, parity.flips) for name, parity in exported.parities.items()}
    assert found == {"clean": (40, 0), "pgd 8/255": (5, 0)}


def test_file_says_what_it_is(classifier, model_file, deploy_file):
    model, deploy = OnnxModel(model_file).metadata, OnnxModel(deploy_file).metadata
    assert (model.kind, deploy.kind, model.resize) == ("logits", "deploy", None)
    assert model.class_names == deploy.class_names == CLASS_NAMES
    assert model.model_sha256 == deploy.model_sha256 == model_sha256(classifier.state_dict())


def test_file_holds_no_path_of_this_machine(model_file, deploy_file):
    for path in (model_file, deploy_file):
        assert b"site-packages" not in path.read_bytes()
        assert str(path.parent).encode() not in path.read_bytes()
        assert not onnx.load(path).doc_string


def test_classifier_is_left_as_it_was(exported, classifier):
    assert model_sha256(exported.classifier.state_dict()) == model_sha256(classifier.state_dict())
    assert not any(module.training for module in exported.classifier.modules())
    wanted = [parameter.requires_grad for parameter in exported.classifier.parameters()]
    assert wanted == [False] + [True] * (len(wanted) - 1)


@pytest.mark.parametrize("export", [export_model, export_deploy])
def test_single_module_in_training_mode_is_refused(export, tmp_path, classifier):
    classifier.backbone[1].train()
    with pytest.raises(ModelError, match=r"expected a network in eval mode, got 1 modules in training mode \(backbone\.1\)"):
        export(classifier, tmp_path / "model.onnx", resolution=SIDE, samples={"clean": images(2)})
    assert list(tmp_path.iterdir()) == []


class Noisy(torch.nn.Module):
    def forward(self, x):
        return torch.rand_like(x).flatten(1)[:, :3]


class Branching(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] if x.sum() > 0 else -x.flatten(1)[:, :3]


def test_file_that_disagrees_is_not_written(tmp_path):
    classifier = small_classifier()
    classifier.backbone = Noisy().eval()
    with pytest.raises(ModelError, match=r"model\.onnx, clean: expected the outputs of PyTorch"):
        export_model(classifier, tmp_path / "model.onnx", resolution=SIDE, samples={"clean": images(8)})
    assert list(tmp_path.iterdir()) == []


def test_network_that_cannot_be_traced_is_one_line(tmp_path):
    classifier = small_classifier()
    classifier.backbone = Branching().eval()
    with pytest.raises(ModelError, match=r"model\.onnx: cannot export the network: ") as caught:
        export_model(classifier, tmp_path / "model.onnx", resolution=SIDE, samples={"clean": images(2)})
    assert "\n" not in str(caught.value)


def test_export_without_images_to_compare_on_is_refused(tmp_path, classifier):
    with pytest.raises(ModelError, match="expected images to compare on, got none"):
        export_model(classifier, tmp_path / "model.onnx", resolution=SIDE, samples={})


@pytest.mark.slow
def test_efficientnet_b0_agrees_at_mission_scale(tmp_path):
    timm = pytest.importorskip("timm")
    from harness.models.classifier import Classifier

    torch.manual_seed(0)
    names = [str(index) for index in range(15)]
    net = Classifier(
        timm.create_model("efficientnet_b0", num_classes=15), mean=[0.5] * 3, std=[0.5] * 3, class_names=names
    ).eval()
    x = torch.rand(4, 3, 224, 224)
    assert export_model(net, tmp_path / "model.onnx", resolution=224, samples={"noise": x})["noise"].flips_outside_margin == 0
    photos = {"wide": pixels(2, 300, 400)}
    assert export_deploy(net, tmp_path / "deploy.onnx", resolution=224, samples=photos)["wide"].max_difference < 1e-4


def test_pytorchs_side_of_the_comparison_is_computed_in_full_float32():
    torch.set_float32_matmul_precision("high")
    try:
        seen = _reference(lambda _: torch.tensor([torch.backends.mkldnn.matmul.fp32_precision == "ieee"]), torch.zeros(1))
        assert seen.all()
    finally:
        torch.set_float32_matmul_precision("highest")
