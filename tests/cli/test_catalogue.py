from pathlib import Path

import pytest

from harness.cli.catalogue import FAMILIES, catalogue, details
from harness.cli.fields import FieldRow
from harness.cli.main import main
from harness.errors import SuiteError


def test_families_of_poisons_and_detectors_are_listed() -> None:
    assert {"backdoor", "gradient_matching"} <= {name for _, name, _ in catalogue("poisons")}
    assert {"activation_clustering", "strip"} <= {name for _, name, _ in catalogue("detectors")}
    assert {"fog"} <= {name for _, name, _ in catalogue("corruptions")}


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, it in FAMILIES.items() for name in it.names()])
def test_every_field_of_a_plugin_has_a_type_a_default_a_unit_and_a_meaning(family: str, name: str) -> None:
    found = details(family, name)
    assert found.lines[0].startswith(f"{family} {name}: ")
    assert found.lines[1].startswith("Source: ")
    cls = FAMILIES[family].get(name)
    assert {row.field for row in found.fields} >= cls.model_fields.keys() - {"name"}
    for row in found.fields:
        assert row.type
        assert row.default
        assert row.meaning
        assert bool(row.unit) == ("number" in row.type)
        assert "<class" not in row.type
        assert "typing" not in row.type


def test_fields_of_pgd_are_told_with_bounds_and_units() -> None:
    found = details("attacks", "pgd")
    assert "Madry et al. 2018, https://arxiv.org/abs/1706.06083" in found.lines[1]
    rows = {row.field: row[1:] for row in found.fields}
    assert rows["steps"] == ("whole number >= 1", "10", "steps", "Number of gradient steps.")
    assert rows["alpha"][:3] == ('number or "8/255" > 0 or null', "null", "pixel units of [0,1]")
    assert rows["random_start"][:3] == ("true or false", "true", "")


def test_fields_of_a_field_are_told_too() -> None:
    rows = {row.field: row for row in details("recipes", "standard").fields}
    assert rows["optimiser.momentum"].type == "number > 0 and < 1"
    assert rows["progressive.resolution"].default == "required"
    assert {"trigger[patch].size", "trigger[blended].opacity"} <= {row.field for row in details("poisons", "backdoor").fields}


def test_unknown_names_are_bad_input() -> None:
    with pytest.raises(SuiteError, match="unknown name 'pdg'; did you mean 'pgd'"):
        details("attacks", "pdg")
    with pytest.raises(SuiteError, match="expected one of suites, datasets"):
        details("atacks", "pgd")
    with pytest.raises(SuiteError, match="suites: unknown name 'quickstrat'; did you mean 'quickstart'"):
        details("suites", "quickstrat")


PLUGIN = '''
from typing import Literal
from pydantic import Field
from harness.attacks.base import Attack

class Blur(Attack):
    """Blurs."""
    name: Literal["blur"] = "blur"
    width: float = Field(default=2.0, json_schema_extra={"unit": "pixels"})
    """How far."""
    def perturb(self, model, x, y, *, threat_model, generator):
        return x
'''


@pytest.fixture
def blurring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package with two plug-ins, one of which cannot be imported."""
    (tmp_path / "blurring.py").write_text(PLUGIN)
    info = tmp_path / "blurring_tools-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blurring-tools\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[harness.attacks]\nblur = blurring:Blur\ntorn = blurring_absent:Torn\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("blurring")
def test_plugin_of_another_package_names_it() -> None:
    rows = {name: what for _, name, what in catalogue("attacks")}
    assert rows["blur"] == "Blurs. [package blurring-tools 1.2]"
    assert rows["torn"].startswith("cannot be imported from the package blurring-tools 1.2: ModuleNotFoundError")
    assert "package" not in rows["pgd"]
    found = details("attacks", "blur")
    assert found.lines[2].endswith("of the package blurring-tools 1.2")
    assert FieldRow("width", "number", "2.0", "pixels", "How far.") in found.fields


def test_command_prints_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["list", "attacks", "fgsm"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "attacks fgsm: One step of the size of the budget along the sign of the gradient."
    assert printed[3] == "field\ttype\tdefault\tunit\tmeaning"
