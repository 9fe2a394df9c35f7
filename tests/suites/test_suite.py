from pathlib import Path

import pytest

from harness.errors import ModelError, SuiteError
from harness.planning.grid import cells_of
from harness.suites.files import expand_variables, load_suite, shipped_suites, suite_title

SMALL = """
name: small
dataset: {name: digits, resolution: 16}
architecture: {name: timm, arch: test_efficientnet}
models:
  baseline: {recipe: {name: standard, epochs: 1}}
  hardened: {recipe: {name: pgd, eps: 8/255, epochs: 1}, warm_start: baseline}
seed: 0
threat_model: {norm: Linf, eps: [8/255, 2/255]}
attacks:
  fgsm: {name: fgsm}
  pgd: {name: pgd, steps: 3}
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_grid_is_models_times_attacks_times_budgets_and_the_clean_rows(suite_file: Path) -> None:
    cells = [row.cell for row in cells_of(load_suite(suite_file))]
    assert len(cells) == 2 * (1 + 2 * 2)
    assert [(cell.attack, str(cell.eps)) for cell in cells[:5]] == [
        ("none", "None"),
        ("fgsm", "2/255"),
        ("fgsm", "8/255"),
        ("pgd", "2/255"),
        ("pgd", "8/255"),
    ]


def test_attack_may_be_for_some_models_only(suite_file: Path) -> None:
    cells = [row.cell for row in cells_of(load_suite(suite_file, ["attacks.pgd.models=[hardened]"]))]
    attacked = {(cell.model, cell.attack) for cell in cells}
    assert ("baseline", "fgsm") in attacked
    assert ("hardened", "pgd") in attacked
    assert ("baseline", "pgd") not in attacked


def test_model_with_poisons_may_not_learn_from_the_validation_split(suite_file: Path) -> None:
    poison = "poisons={flip: {name: label_flip, rates: [0.1]}}"
    with pytest.raises(SuiteError, match=r"baseline\.recipe\.validation: expected held_out for a model with poisons"):
        load_suite(suite_file, [poison, "models.baseline.recipe.validation=learned"])


def test_cells_of_corruptions_say_what_kind_they_are(suite_file: Path) -> None:
    suite = load_suite(suite_file, ["corruptions={mist: {name: fog, severities: [2]}, tilt: {name: rotation, severities: [1]}}"])
    cells = [row.cell for row in cells_of(suite) if row.cell.model == "baseline" and row.cell.corruption]
    assert [(cell.corruption, cell.corruption_group, cell.severity) for cell in cells] == [
        ("mist", "weather", 2),
        ("tilt", "geometry", 1),
    ]


def test_cell_that_cannot_run_carries_its_reason(suite_file: Path) -> None:
    cells = cells_of(load_suite(suite_file, ["attacks.fgsm.norm=L1", "attacks.fgsm.eps=[1]"]))
    skipped = [row for row in cells if row.skip is not None]
    assert {row.cell.attack for row in skipped} == {"fgsm"}
    assert all("L1" in (row.skip or "") for row in skipped)


@pytest.mark.parametrize("name", sorted(shipped_suites()))
def test_shipped_suite_is_valid_and_has_a_title(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", "/data")
    monkeypatch.setenv("HARNESS_WEIGHTS", "/weights")
    assert load_suite(name).name == name
    assert suite_title(shipped_suites()[name])


def test_override_reaches_nested_fields_and_list_items(suite_file: Path) -> None:
    suite = load_suite(suite_file, ["models.hardened.recipe.epochs=7", "threat_model.eps.0=1/255", "dataset.resolution=8"])
    assert suite.models["hardened"].recipe.epochs == 7
    assert [str(threat.eps) for threat in suite.threat_models("pgd")] == ["1/255", "2/255"]
    assert suite.dataset.resolution == 8


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.hardened.recipe.epochs=0", "models.hardened.recipe.epochs: expected a number >= 1, got 0"),
        ("attacks.pgd.steps=0", "attacks.pgd.steps: expected a number >= 1, got 0"),
        ("threat_model.eps=[8]", 'write "8/255", not 8'),
        ("threat_model.eps=[]", "threat_model.eps"),
        ("threat_model.eps=[2/255, 2/255]", "each budget once"),
        ("threat_model.eps=[minus]", "expected a budget"),
        ("attacks.pgd.name=pdg", "did you mean 'pgd'"),
        ("attacks.pgd.color=red", "attacks.pgd.color: unknown field"),
        ("dataset.name=digit", "did you mean 'digits'"),
        ("models.hardened.warm_start=nobody", "expected one of baseline, got 'nobody'"),
        ("models.baseline.warm_start=hardened", "expected a chain that ends"),
        (
            "models.hardened.recipe.progressive={epochs: 1, resolution: 8}",
            "recipe: progressive.epochs: expected fewer than the 1 epochs, got 1",
        ),
        (
            "models.baseline.recipe={name: standard, progressive: {epochs: 1, resolution: 16}}",
            "baseline.recipe.progressive.resolution: expected fewer pixels than the data set's 16, got 16",
        ),
        (
            "models.baseline.recipe={name: standard, validation: learned, patience: 2}",
            "recipe: patience: expected none with validation: learned",
        ),
        (
            "models.baseline.recipe={name: standard, epochs: 9, patience: 2, validate_every: 3}",
            "recipe: patience: expected at least validate_every, 3 epochs, got 2",
        ),
        ("attacks.pgd.models=[nobody]", "attacks.pgd.models: expected one of baseline, hardened, got 'nobody'"),
        ("models.hardened={recipe: {name: pgd, eps: 8/255, distil: 0.5}}", "hardened.recipe.distil: expected a warm_start"),
        ("models.hardened.architecture={name: timm, arch: test_resnet}", "the same architecture and arguments"),
        ("architecture=null", "models.baseline.architecture: required"),
        ("models={}", "models"),
        ("attacks.again={name: pgd, steps: 3}", "the same as attacks.pgd"),
        ("expectations=[{model: baseline, metric: accuracy}]", "at_least, at_most or above"),
        ("expectations=[{model: nobody, metric: accuracy, at_least: 1}]", "expectations.0.model"),
        (
            "expectations=[{model: baseline, attack: pgd, eps: 3/255, metric: accuracy, at_least: 1}]",
            "expected one of 2/255, 8/255",
        ),
        (
            "expectations=[{model: baseline, metric: robust_accuracy, at_least: 0.1}]",
            "expectations.0: metric: expected an attack",
        ),
        (
            "expectations=[{model: baseline, metric: attack_success_rate, at_most: 0.1}]",
            "metric: expected an attack, or a poison's",
        ),
        ("expectations=[{model: baseline, metric: accuracy, at_least: 90}]", "expectations.0.at_least: expected a number <= 1"),
        ("expectations=[{model: baseline, metric: accuracy, at_least: 0.9, at_most: 0.1}]", "expected at_least <= at_most"),
        ("attacks.worst_case={name: random_noise}", "attacks.worst_case: expected another label"),
        ("attacks.none={name: random_noise}", "attacks.none: expected another label"),
        ("folders.none={root: photos}", "folders.none: expected another label"),
        ("models.baseline.recipe.epochs=yes", "models.baseline.recipe.epochs: expected a number, got True"),
        ("attacks.pgd.steps=on", "attacks.pgd.steps: expected a number, got True"),
        ("evaluation.limit=true", "evaluation.limit: expected a number, got True"),
        ("attacks.pgd.stepz=3", "attacks.pgd.stepz: unknown field; did you mean 'steps'"),
        ("attacks.pgd.epz=[1/255]", "attacks.pgd.epz: unknown field; did you mean 'eps'"),
        ("title=2024-13-45", "expected a YAML value after '='"),
        ("name=a/b", "name"),
        ("nonsense", "expected the form a.b=c"),
        ("threat_model.eps.9=1/255", "expected an index below 2"),
        ("seed.x=1", "expected a mapping before 'x'"),
        ("seed=[", "expected a YAML value"),
        ("evaluation={protocol: bisect, best_of_iterates: false}", "evaluation.protocol: expected nested or independent beside"),
    ],
)
def test_bad_suite_is_refused_with_its_place(suite_file: Path, override: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load_suite(suite_file, [override])
    assert message in str(caught.value)
    assert "top level" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_warm_start_may_differ_in_dropout_which_has_no_weights(suite_file: Path) -> None:
    dropout = "{name: timm, arch: %s, arguments: {drop_rate: 0.3}}"
    arch = load_suite(suite_file).architecture_of("hardened").arch
    suite = load_suite(suite_file, [f"models.hardened.architecture={dropout % arch}"])
    assert suite.models["hardened"].warm_start == "baseline"
    with pytest.raises(SuiteError, match="the same architecture and arguments"):
        load_suite(suite_file, [f"models.hardened.architecture={{name: timm, arch: {arch}, arguments: {{img_size: 8}}}}"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\na: 2", "'a' stands twice"),
        ("- a", "expected a mapping"),
        ("a: [", "expected YAML"),
        ("\x00", "expected YAML"),
        ("title: 2024-13-45", "expected YAML, found month must be in 1..12"),
        ("", "expected a mapping"),
    ],
)
def test_file_that_is_no_suite_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(SuiteError, match=message):
        load_suite(path)


def test_missing_file_and_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="nothing there"):
        load_suite(tmp_path / "none.yaml")
    with pytest.raises(SuiteError, match="a folder"):
        load_suite(tmp_path)
    with pytest.raises(SuiteError, match="quickstart"):
        load_suite("quikstart")


@pytest.mark.parametrize("source", ["~nobody-of-that-name/x.yaml", f"{'x' * 300}.yaml", f"{'x' * 300}"])
def test_impossible_path_is_refused(source: str) -> None:
    with pytest.raises(SuiteError, match="expected a suite file, found"):
        load_suite(source)


def test_suite_in_a_folder_that_may_not_be_entered_is_refused(suite_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(SuiteError, match="expected a suite file, found Permission denied"):
        load_suite(suite_file)


@pytest.mark.parametrize(
    ("architecture", "override", "expected"),
    [
        ("test_resnet", "architecture.arguments.drop_rate=0.5", {"name": "timm", "arch": "test_resnet"}),
        ("pack.nets:small", "architecture.arguments.width=8", {"name": "factory", "factory": "pack.nets:small"}),
    ],
)
def test_override_below_an_architecture_written_as_a_text(
    suite_file: Path, architecture: str, override: str, expected: dict[str, str]
) -> None:
    suite = load_suite(suite_file, [f"architecture={architecture}", override])
    fields = suite.architecture_of("baseline").model_dump()
    assert expected.items() <= fields.items()
    assert fields["arguments"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("architecture.arch=efficientnet_bo", r"^architecture.arch: timm has no model 'efficientnet_bo'; did you mean"),
        (
            "models.hardened={architecture: 'nosuch.sub:f', recipe: standard}",
            r"^models.hardened.architecture.factory: .*imported",
        ),
    ],
)
def test_network_that_does_not_exist_is_named_by_its_field(suite_file: Path, override: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_suite(suite_file, [override]).check_networks()


@pytest.mark.parametrize(
    ("weights", "found"),
    [("missing.h5", "found none"), ("broken.safetensors", "complete safetensors"), ("~nobody-there/x.h5", "found")],
)
def test_weights_that_cannot_be_read_are_named_by_their_field(suite_file: Path, tmp_path: Path, weights: str, found: str) -> None:
    (tmp_path / "broken.safetensors").write_text("broken")
    path = weights if weights.startswith("~") else tmp_path / weights
    suite = load_suite(suite_file, [f"architecture.weights={path}"])
    with pytest.raises(ModelError, match=f"^architecture.weights: .*{found}"):
        suite.check_weights()


def test_environment_variables_are_expanded_after_overrides(suite_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TITLE", "of mine")
    assert load_suite(suite_file, ["title=a run ${MY_TITLE}"]).title == "a run of mine"
    with pytest.raises(SuiteError, match="UNSET_NAME to be set"):
        expand_variables({"root": "${UNSET_NAME}/x"}, where="x.yaml")


@pytest.mark.parametrize("override", ["attacks.fgsm={name: fgsm}", "attacks.deep={name: deepfool, norm: L2, eps: [0.5]}"])
def test_the_reference_budget_is_one_of_the_sweep_in_the_first_norm(suite_file: Path, override: str) -> None:
    assert str(load_suite(suite_file, ("reference_budget=8/255", override)).reference_budget) == "8/255"
    for wrong, shown in (("4/255", "4/255"), ("0.5", "1/2")):
        with pytest.raises(SuiteError, match=rf"reference_budget: expected one of 2/255, 8/255, got '{shown}'"):
            load_suite(suite_file, (f"reference_budget={wrong}", override))


def test_a_reference_budget_needs_attacks(suite_file: Path) -> None:
    with pytest.raises(SuiteError, match=r"reference_budget: expected one of none here, got '8/255'"):
        load_suite(suite_file, ("reference_budget=8/255", "attacks={}"))
