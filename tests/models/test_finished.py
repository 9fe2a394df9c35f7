"""A finished network keeps its weights, and says which adapter it lacks."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from harness.errors import ModelError
from harness.models.adapted import luminance
from harness.models.adapter import Adapter, read_classes_file
from harness.models.base import MODELS, Architecture
from harness.models.classifier import Classifier
from harness.models.fingerprint import state_sha256
from harness.models.finished import finished_classifier
from harness.models.h5 import save_h5
from harness.models.scripted import InMemory, TorchScript
from harness.models.weights import save_safetensors
from tests.finished import DIGITS, FACTORY, Normalised, network, save_script, save_state

SIZE = 16


def built(architecture: Architecture, names: tuple[str, ...] = DIGITS, **adapter: Any) -> Classifier:
    return finished_classifier(architecture, Adapter.model_validate(adapter), names, resolution=SIZE)


def factory(path: Path) -> Architecture:
    return MODELS.parse({**FACTORY, "weights": str(path)})


@pytest.fixture
def x() -> Tensor:
    return torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def wanted(x: Tensor) -> Tensor:
    return Normalised(network())(x)


def test_every_format_gives_the_logits_of_the_network_that_it_was_made_from(tmp_path: Path, x: Tensor, wanted: Tensor) -> None:
    classifier = Classifier(network(), mean=(0.5,) * 3, std=(0.5,) * 3, class_names=DIGITS)
    save_safetensors(classifier, tmp_path / "own.safetensors")
    save_h5(classifier, tmp_path / "own.h5", arch=FACTORY["factory"], resolution=SIZE, summary={}, builder="factory")
    files = [
        *(tmp_path / "own.safetensors", tmp_path / "own.h5"),
        save_state(tmp_path / "plain.pth"),
        save_state(tmp_path / "parallel.pth", prefix="module.", under="state_dict"),
        save_state(tmp_path / "lightning.pt", prefix="model.", under="model"),
    ]
    for path in files:
        assert torch.equal(built(factory(path))(x), wanted), path
    assert torch.allclose(built(TorchScript(weights=str(save_script(tmp_path / "net.pt"))))(x), wanted, atol=1e-6)
    assert torch.allclose(built(InMemory.of(Normalised(network())))(x), wanted, atol=1e-6)


def test_log_says_under_which_key_and_prefix_weights_were_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "harness")
    built(factory(save_state(tmp_path / "a.pth", prefix="module.", under="state_dict")))
    assert "its weights are those under 'state_dict'" in caplog.text
    assert "the prefix 'module.' is taken from the names" in caplog.text
    caplog.clear()
    built(factory(save_state(tmp_path / "b.pth")))
    assert not caplog.records


@pytest.mark.parametrize("names", [DIGITS[::-1], DIGITS[3:7], ("7", "2")])
def test_classes_are_matched_by_name(names: tuple[str, ...], tmp_path: Path, x: Tensor, wanted: Tensor) -> None:
    logits = built(factory(save_state(tmp_path / "a.pth")), names, classes=DIGITS)(x)
    assert torch.equal(logits, wanted[:, [int(name) for name in names]])


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (DIGITS[:7], None, "expected a head of 7 logits, got one of 10; `classes:` names the classes"),
        ((*DIGITS, "ten"), None, "expected a head of 11 logits, got one of 10"),
        (("1", "eleven"), DIGITS, "expected all classes of the data among the 10 of the network, found no 'eleven'"),
        (DIGITS[:7], (*DIGITS, "ten"), "expected a head of 11 logits, got one of 10"),
    ],
)
def test_head_for_other_classes_is_an_error(
    names: tuple[str, ...], classes: tuple[str, ...] | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        built(factory(save_state(tmp_path / "a.pth")), names, classes=classes)


def test_weights_of_another_architecture_and_a_pickled_module_are_errors(tmp_path: Path) -> None:
    path = save_state(tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"the weights in .*a\.pth do not fit: .* missing"):
        finished_classifier(
            MODELS.parse({"name": "timm", "arch": "test_resnet", "weights": str(path)}), Adapter(), DIGITS, resolution=32
        )
    torch.save(network(), tmp_path / "module.pth")
    with pytest.raises(ModelError, match=r"nothing was run of what it holds: it needs torch\.nn\.modules\.container\.Sequential"):
        built(factory(tmp_path / "module.pth"))


class Told(nn.Module):
    """A network whose output has another form."""

    def __init__(self, form: Callable[[Tensor], object], outputs: int = 10) -> None:
        """See the class."""
        super().__init__()
        self.inner, self.form = Normalised(network(outputs)), form

    def forward(self, x: Tensor) -> object:
        """Returns logits in some form."""
        return self.form(self.inner(x))


class Output:
    """An object with logits, as transformers have."""

    def __init__(self, logits: Tensor) -> None:
        """See the class."""
        self.logits = logits


FORMS: dict[int | str, Callable[[Tensor], object]] = {
    0: lambda logits: (logits, "more"),
    1: lambda logits: [None, logits],
    "logits_of_it": lambda logits: {"loss": None, "logits_of_it": logits},
    "logits": Output,
}


@pytest.mark.parametrize("place", [0, "logits_of_it"])
def test_output_of_another_form_is_an_error_that_names_the_adapter(place: int | str) -> None:
    with pytest.raises(ModelError, match=f"`output: {place}`"):
        built(InMemory.of(Told(FORMS[place])))


@pytest.mark.parametrize("place", [0, 1, "logits_of_it"])
def test_output_is_taken_from_its_place(place: int | str, x: Tensor, wanted: Tensor) -> None:
    assert torch.allclose(built(InMemory.of(Told(FORMS[place])), output=place)(x), wanted, atol=1e-6)
    with pytest.raises(ModelError, match="output: expected 'other' in what the network gives"):
        built(InMemory.of(Told(FORMS[place])), output="other")


def test_attribute_named_logits_is_asked_for_and_taken(x: Tensor, wanted: Tensor) -> None:
    with pytest.raises(ModelError, match="got a Output with logits; `output: logits` takes"):
        built(InMemory.of(Told(FORMS["logits"])))
    assert torch.allclose(built(InMemory.of(Told(FORMS["logits"])), output="logits")(x), wanted, atol=1e-6)


@pytest.mark.parametrize("form", [lambda logit: logit, lambda logit: logit[:, 0]])
def test_one_sigmoid_logit_becomes_two_classes(form: Callable[[Tensor], Tensor], x: Tensor) -> None:
    module = Told(form, outputs=1)
    with pytest.raises(ModelError, match="`output: sigmoid` takes it for the logit of the second class"):
        built(InMemory.of(module), ("no", "yes"))
    found = built(InMemory.of(module), ("no", "yes"), output="sigmoid")(x).softmax(dim=1)
    assert torch.allclose(found[:, 1], module.inner(x)[:, 0].sigmoid(), atol=1e-6)


def grey_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 10)).eval()


def test_grey_network_is_an_error_that_names_the_adapter_and_takes_grey_images(x: Tensor) -> None:
    with pytest.raises(ModelError, match=r"`input: \{channels: 1\}`"):
        built(InMemory.of(grey_network()))
    grey = x[:, :1].expand(-1, 3, -1, -1)
    found = built(InMemory.of(grey_network()), input={"channels": 1, "range": [0, 1]})(grey)
    assert torch.allclose(found, grey_network()(x[:, :1]), atol=1e-5)


def test_architecture_of_timm_is_built_for_grey_images(tmp_path: Path) -> None:
    grey = timm.create_model("test_efficientnet", num_classes=10, in_chans=1).eval()
    torch.save(grey.state_dict(), tmp_path / "grey.pth")
    architecture = MODELS.parse({"name": "timm", "arch": "test_efficientnet", "weights": str(tmp_path / "grey.pth")})
    x = torch.rand(2, 1, 32, 32)
    adapter = Adapter.model_validate({"input": {"channels": 1, "range": [-1, 1]}})
    found = finished_classifier(architecture, adapter, DIGITS, resolution=32)(x.expand(-1, 3, -1, -1))
    assert torch.allclose(found, grey(2 * x - 1), atol=1e-4)


def test_pretrained_weights_whose_head_would_be_new_are_refused_before_they_are_downloaded() -> None:
    architecture = MODELS.parse({"name": "timm", "arch": "test_efficientnet", "pretrained": True})
    with pytest.raises(ModelError, match="expected pretrained weights of 10 classes, got 1000, so its head would be new"):
        finished_classifier(architecture, Adapter(), DIGITS, resolution=32)


def test_luminance_is_that_of_pillow() -> None:
    pixels = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pillow = pil_to_tensor(Image.fromarray(pixels.permute(1, 2, 0).numpy()).convert("L")).float()
    assert torch.allclose(luminance(pixels[None].float())[0], pillow, atol=1.0)


@pytest.mark.parametrize("limits", [(0, 255), (-1, 1), (0, 1)])
def test_range_says_what_black_and_white_are(limits: tuple[int, int], x: Tensor) -> None:
    black, white = limits
    module = network()
    found = built(InMemory.of(module), input={"range": list(limits)})(x)
    assert torch.allclose(found, module(x * (white - black) + black), rtol=1e-4, atol=1e-4)


def test_mean_and_std_are_in_units_of_the_range(x: Tensor) -> None:
    mean, std = torch.tensor([124.0, 116.0, 104.0]).view(1, 3, 1, 1), torch.tensor([58.0, 57.0, 57.5]).view(1, 3, 1, 1)
    form = {"range": [0, 255], "mean": mean.flatten().tolist(), "std": std.flatten().tolist()}
    assert torch.allclose(built(InMemory.of(network()), input=form)(x), network()((255 * x - mean) / std), atol=1e-4)


def test_classes_file_has_a_name_a_line(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffLeek\n\n Spring onion \nCafe\u0301\n", encoding="utf-8")
    assert read_classes_file(str(path)) == ("Leek", "Spring onion", "Caf\u00e9")
    for text, message in {"Leek\n": "two or more class names", "a\nb\na\n": "each class once, found 'a' twice"}.items():
        path.write_text(text)
        with pytest.raises(ModelError, match=message):
            read_classes_file(str(path))
    with pytest.raises(ModelError, match="expected a text file with a class name a line"):
        read_classes_file(str(tmp_path / "absent.txt"))


def test_state_hash_depends_on_values_alone() -> None:
    first, same, other = network(), network(), network(seed=1)
    assert state_sha256(first) == state_sha256(same) != state_sha256(other)
    assert InMemory.of(first).identity() == InMemory.of(same).identity()
    changed = nn.Sequential(*[nn.Tanh() if isinstance(layer, nn.ReLU) else layer for layer in network()])
    assert InMemory.of(changed).identity() != InMemory.of(first).identity()


def test_module_of_the_caller_is_left_as_it_is() -> None:
    module = network().train()
    classifier = built(InMemory.of(module))
    assert module.training
    assert not {id(weight) for weight in classifier.parameters()} & {id(weight) for weight in module.parameters()}
