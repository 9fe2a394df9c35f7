"""A model without a recipe is finished; what says something of a training is refused beside it, and the reverse."""

from pathlib import Path
from typing import Any

import pytest

from harness.errors import ModelError, SuiteError
from harness.models.adapter import Adapter
from harness.models.scripted import InMemory, TorchScript
from harness.suites.judged import judged_suite
from tests.finished import FACTORY, Normalised, judging, network, save_script, save_state

RECIPE = {"name": "standard", "epochs": 1}
FLIP = {"flip": {"name": "label_flip", "source_class": "1", "target_class": "2", "rates": [0.1]}}
TRAINED = {"trained": {"architecture": FACTORY, "recipe": RECIPE}}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"warm_start": "trained"}, "mine: warm_start: expected a recipe beside it"),
        ({"poisons": ["flip"]}, "mine: poisons: expected a recipe beside them"),
        ({"recipe": RECIPE}, "mine: weights: expected no recipe beside it"),
        ({"weights": None, "recipe": RECIPE, "classes": ["a", "b"]}, "mine: classes: expected no recipe beside it"),
        ({"weights": None, "recipe": RECIPE, "output": 0}, "mine: output: expected no recipe beside it"),
        ({"weights": None, "recipe": RECIPE, "input": {"channels": 3}}, None),
        ({"weights": None, "recipe": RECIPE, "input": {"range": [0, 255]}}, "mine: input: expected no recipe beside it"),
        ({"weights": None}, None),
        ({"weights": None, "architecture": None}, "models.mine.recipe: required field is missing"),
        ({"weights": None, "architecture": "resnet18"}, "models.mine.weights: required, as a model without a recipe is finished"),
        ({"architecture": None}, "models.mine.architecture: required, as .* holds tensors alone"),
        ({"architecture": {**FACTORY, "weights": "other.pth"}}, "mine: weights: expected one file, got another one"),
        ({"factory": "tests.nets:small_convnet"}, "mine: factory: expected no architecture beside it"),
        ({"weights": "net.onnx"}, "mine: architecture: expected none beside onnx, as the graph is in the file"),
        ({"weights": "net.onnx", "architecture": None}, None),
        ({"onnx": "net.onnx"}, "mine: onnx: expected one file, got another one in weights"),
        ({"weights": None, "architecture": None, "onnx": "net.pth"}, "mine: onnx: expected a file NAME.onnx, got 'net.pth'"),
        ({"weights": None, "onnx": "a.onnx", "recipe": RECIPE, "architecture": None}, "mine: onnx: expected no recipe beside it"),
        ({"twin": "net.pth"}, "mine: twin: expected an ONNX file in onnx beside it"),
        ({"weights": "a.onnx", "architecture": None, "twin": "trained"}, "mine.twin: expected a finished model .* 'trained', wh"),
        ({"weights": "a.onnx", "architecture": None, "twin": "mine"}, "mine.twin: expected a finished model .* 'mine', an ONNX"),
        ({"weights": "a.onnx", "architecture": None, "twin": "b.pth"}, "mine.twin: b.pth: expected a file of weights, found"),
        ({"input": {"channels": 2}}, "models.mine.input.channels: expected 1 or 3, got 2"),
        ({"input": {"channels": 1}}, "models.mine.input: channels: expected range, or mean and std, beside 1"),
        ({"input": {"range": [1, 0]}}, "models.mine.input: range: expected the value of black below that of white"),
        ({"input": {"mean": [0, 0, 0]}}, "models.mine.input: mean and std: expected both or neither"),
        ({"output": -1}, "models.mine.output: expected logits, sigmoid, a place from 0 on or a key, got -1"),
        ({"weight": "net.pth"}, "models.mine.weight: unknown field; did you mean 'weights'"),
    ],
)
def test_parts_of_an_entry_that_do_not_fit_are_one_line(entry: dict[str, Any], message: str | None, tmp_path: Path) -> None:
    known = {"architecture": FACTORY, "weights": str(save_state(tmp_path / "net.pth"))}
    fields = {key: value for key, value in {**known, **entry}.items() if value is not None}
    if message is None:
        judging({**TRAINED, "mine": fields})
        return
    with pytest.raises(SuiteError, match=message) as refused:
        judging({**TRAINED, "mine": fields}, poisons=FLIP)
    assert str(refused.value).count("\n") == 0


def test_trained_model_does_not_start_from_a_finished_one(tmp_path: Path) -> None:
    mine = {"architecture": FACTORY, "weights": str(save_state(tmp_path / "net.pth"))}
    hardened = {"architecture": FACTORY, "recipe": RECIPE, "warm_start": "mine"}
    with pytest.raises(SuiteError, match=r"hardened\.warm_start: expected a model with a recipe, got 'mine', which is finished"):
        judging({"mine": mine, "hardened": hardened})


def test_poisons_and_detectors_are_for_the_models_that_are_trained(tmp_path: Path) -> None:
    mine = {"architecture": FACTORY, "weights": str(save_state(tmp_path / "net.pth"))}
    suite = judging({"mine": mine, **TRAINED}, poisons=FLIP, detectors={"spectral": {"name": "spectral_signatures"}})
    assert {variant.model for variant in suite.variants() if variant.poison} == {"trained"}
    assert suite.models_of("spectral") == ("trained",)
    with pytest.raises(SuiteError, match="poisons: expected a model with a recipe that is trained on them"):
        judging({"mine": mine}, poisons=FLIP)
    with pytest.raises(SuiteError, match=r"detectors.spectral.models: expected models with poisons to detect, got 'mine'"):
        judging(
            {"mine": mine, **TRAINED}, poisons=FLIP, detectors={"spectral": {"name": "spectral_signatures", "models": ["mine"]}}
        )


def test_file_decides_what_it_is_loaded_into(tmp_path: Path) -> None:
    state, script = str(save_state(tmp_path / "net.pth")), str(save_script(tmp_path / "net.pt"))
    suite = judging(
        {"state": {"weights": state}, "script": {"weights": script}, "module": Normalised(network())}, architecture=FACTORY
    )
    assert suite.architecture_of("state").name == "factory"
    assert suite.architecture_of("state").weights == state
    assert isinstance(suite.architecture_of("script"), TorchScript)
    assert isinstance(suite.architecture_of("module"), InMemory)
    assert suite.adapter_of("script") == Adapter()


def test_finished_models_alone_are_judged_on_all_images_of_a_folder(tmp_path: Path) -> None:
    dataset = {"name": "image_folder", "root": str(tmp_path), "held_out": True}
    with pytest.raises(SuiteError, match=r"dataset\.held_out: expected finished models alone beside true, got 'trained'"):
        judging(TRAINED, dataset=dataset)


def test_file_of_tensors_alone_asks_for_its_architecture(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected --arch NAME beside it"):
        judged_suite(save_state(tmp_path / "net.pth"), tmp_path)
    (tmp_path / "net.onnx").touch()
    with pytest.raises(ModelError, match=r"--arch: .*net\.onnx has its own graph"):
        judged_suite(tmp_path / "net.onnx", tmp_path, arch="resnet18", resolution=8)


@pytest.mark.parametrize(
    ("budgets", "rising", "middle"),
    [((), ["2/255", "4/255", "8/255"], "4/255"), (("0.1", "2/255", "0.1", "4/255"), ["2/255", "4/255", "0.1"], "4/255")],
)
def test_audit_is_at_the_middle_budget(budgets: tuple[str, ...], rising: list[str], middle: str, tmp_path: Path) -> None:
    fields = judged_suite(save_script(tmp_path / "my net.pt"), tmp_path, eps=budgets)
    assert fields["threat_model"]["eps"] == rising
    assert fields["attacks"]["audited"]["audit_at"] == [middle]
    assert fields["name"] == "judge-my-net"
