"""`harness validate` looks at folders, classes and files, and decodes and trains nothing."""

import os
from pathlib import Path

import pytest
from PIL import Image

from harness.datasets import vegetables
from tests.cli.test_main import call
from tests.conftest import MakeFolder

SUITE = """
name: looked
dataset: {{name: image_folder, root: "{data}", resolution: 16}}
architecture: {{name: factory, factory: "tests.nets:small_convnet"}}
models: {{baseline: {{recipe: {{name: standard, epochs: 1}}}}}}
threat_model: {{norm: Linf, eps: [4/255]}}
attacks: {{pgd: {{name: pgd, target_class: Leek}}}}
folders: {{street: {{root: "{street}"}}}}
poisons: {{flip: {{name: label_flip, source_class: Leek, target_class: Onion, rates: [0.1]}}}}
"""


@pytest.fixture
def suite(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = SUITE.format(data=make_folder("data"), street=make_folder("street", splits={"": 2}))
    (tmp_path / "looked.yaml").write_text(text)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("an image was opened"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "looked.yaml"


def test_sound_suite_is_valid_without_an_image_being_decoded(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("validate", str(suite)) == 0
    assert "looked: valid; 1 models" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.root=nowhere", "dataset.root: nowhere: expected a folder of images, found nothing"),
        ("attacks.pgd.target_class=Tomatoe", "attacks.pgd.target_class: expected a class of the data set, got 'Tomatoe'"),
        ("poisons.flip.source_class=Leak", "poisons.flip.source_class: expected one of the classes Leek, Onion, got 'Leak'"),
        ("folders.street.root=absent", "folders.street.root: absent: expected a folder of images, found nothing"),
        ("folders.street.root=data", "folders.street.root: data: expected folders named as the classes Leek, Onion, found test"),
        ("architecture.weights=none.safetensors", "architecture.weights: "),
        (
            "poisons.back={name: backdoor, target_class: Leek, rates: [0.1], trigger: {kind: patch, image: none.png}}",
            "poisons.back.trigger.image: expected an image file, got 'none.png'",
        ),
    ],
)
def test_what_is_missing_is_one_line(suite: Path, capsys: pytest.CaptureFixture[str], override: str, message: str) -> None:
    assert call("validate", str(suite), "--set", override) == 2
    said = capsys.readouterr().err.strip()
    assert message in said.replace("\n", " ")


def test_data_set_that_would_be_downloaded_is_named_where_it_cannot_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vegetables, "find_spec", lambda _: None)
    assert call("validate", "vegetables") == 2
    assert "dataset.root: expected the folder of the vegetable photographs, got none" in capsys.readouterr().err
    monkeypatch.setattr(vegetables, "find_spec", lambda _: object())
    assert call("validate", "vegetables") == 0


NUMBERED = ("0", "1", "2", "10")


@pytest.mark.parametrize("place", ["attacks.pgd.target_class", "poisons.flip.target_class", "poisons.flip.source_class"])
def test_number_that_is_the_place_of_one_class_and_the_name_of_another_is_refused(
    make_folder: MakeFolder, suite: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    make_folder("numbers", classes=NUMBERED)
    clear = ["dataset.root=numbers", "folders={}", 'attacks.pgd.target_class="0"', "poisons.flip.source_class=0"]
    clear += ["poisons.flip.target_class=1"]
    for value, code in (('"2"', 0), ("2", 2), ("0", 0) if "pgd" in place else ('"10"', 0)):
        settings = [f"--set={setting}" for setting in [*clear, f"{place}={value}"]]
        assert call("validate", str(suite), *settings) == code, value
    assert f'{place}: expected the name of a class as a text, "2" or "10", got the number 2' in capsys.readouterr().err


def test_trigger_that_is_a_fifo_is_not_opened(suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    trigger = "poisons.back={name: backdoor, target_class: Leek, rates: [0.1], trigger: {kind: patch, image: pipe.png}}"
    assert call("validate", str(suite), "--set", trigger) == 2
    assert "expected a regular file, got a FIFO" in capsys.readouterr().err.replace("\n", " ")
