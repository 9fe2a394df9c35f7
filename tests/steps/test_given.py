"""A finished model is judged as it is: nothing is trained, and its digest is of its content."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.errors import HarnessError, ModelError, StepFailed, SuiteError
from harness.evaluation.clean import evaluate_clean
from harness.planning.plan import Plan, plan_of
from harness.records import Status
from harness.running.runner import RunSummary, run
from harness.steps.base import Context
from harness.steps.given import Given
from harness.storage.store import Store, sha256_of_file
from harness.suites.base import Variant
from harness.suites.suite import Suite
from tests.cli.test_main import call
from tests.finished import FACTORY, Normalised, judging, network, save_script, save_state


def planned(suite: Suite) -> Plan:
    return plan_of(suite, suite.dataset.load())


def given_digest(suite: Suite) -> str:
    return planned(suite).training[Variant("mine")].digest


def run_in(folder: Path, suite: Suite, **options: object) -> RunSummary:
    return run(suite, out=folder / "out", store=folder / "store", device="cpu", **options)  # type: ignore[arg-type]


def of_state(path: Path, **fields: object) -> Suite:
    return judging({"mine": {"architecture": FACTORY, "weights": str(path), **fields}})


def test_nothing_is_trained_and_every_table_says_given(tmp_path: Path) -> None:
    suite = of_state(save_state(tmp_path / "net.pth"))
    assert [step.KIND for step in planned(suite).steps] == ["given", "clean", "attack", "attack"]
    summary = run_in(tmp_path, suite)
    assert summary.ok
    results = harness.load_results(summary.folder)
    assert set(results.cells["recipe"]) == set(results.leaderboard["recipe"]) == {"given"}
    assert len(results.history) == len(results.training) == 0
    assert "judged as given" in (summary.folder / "report.html").read_text()
    assert {cell.status for cell in run_in(tmp_path, suite).record.cells} == {Status.CACHED}


def test_results_name_the_file_that_was_judged(tmp_path: Path) -> None:
    path = save_state(tmp_path / "net.pth")
    summary = run_in(tmp_path, of_state(path), models={"module": Normalised(network())})
    known = harness.load_results(summary.folder).provenance["models"]
    assert (known["mine"]["file"], known["mine"]["sha256"]) == ("net.pth", sha256_of_file(path))
    assert known["module"]["file"] == "Normalised"


def test_numbers_are_those_of_the_network(tmp_path: Path) -> None:
    suite = of_state(save_state(tmp_path / "net.pth", prefix="module.", under="model"))
    summary = run_in(tmp_path, suite)
    examples = planned(suite).examples.of(suite.dataset.load())
    wanted = evaluate_clean(Normalised(network()), examples, batch_size=None, device=torch.device("cpu"))
    found = summary.record.cells[0]
    assert found.clean_logits is not None
    np.testing.assert_allclose(found.clean_logits, wanted.clean_logits, atol=1e-5)


def test_digest_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    first = save_state(tmp_path / "first.pth")
    moved = Path(shutil.copy(first, tmp_path / "moved.pth"))
    other = save_state(tmp_path / "other.pth", seed=1)
    digests = [given_digest(of_state(path)) for path in (first, moved, other)]
    assert digests[0] == digests[1] != digests[2]
    adapted = [
        given_digest(of_state(first, **fields)) for fields in ({"input": {"range": [0, 255]}}, {"classes": list("9876543210")})
    ]
    assert len({digests[0], *adapted}) == 3


def test_weights_that_change_while_the_suite_runs_fail_the_step(tmp_path: Path) -> None:
    suite = of_state(path := save_state(tmp_path / "net.pth"))
    data = suite.dataset.load()
    step = plan_of(suite, data).training[Variant("mine")]
    assert isinstance(step, Given)
    save_state(path, seed=1)
    with pytest.raises(StepFailed, match="its weights changed while the suite ran"):
        step.classifier(Context(Store(tmp_path / "store"), data, torch.device("cpu")))


@pytest.mark.parametrize("entry", [{"factory": "tests.finished:network"}, {"architecture": "tests.finished:network"}])
def test_factory_without_a_recipe_is_finished_and_counts_by_its_weights(
    entry: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = judging({"mine": entry})
    first = given_digest(suite)
    assert run_in(tmp_path, suite).ok
    monkeypatch.setattr("tests.finished.network", lambda num_classes: network(num_classes, seed=1))
    assert given_digest(suite) != first


def test_script_state_and_module_get_the_same_accuracies(tmp_path: Path) -> None:
    models = {
        "state": {"architecture": FACTORY, "weights": str(save_state(tmp_path / "net.pth"))},
        "script": {"weights": str(save_script(tmp_path / "net.pt"))},
    }
    module = Normalised(network())
    summary = run_in(tmp_path, judging(models), models={"module": module})
    assert summary.ok
    cells = harness.load_results(summary.folder).cells
    found = {label: rows["accuracy"].to_numpy() for label, rows in cells.groupby("model")}
    assert set(found) == {"state", "script", "module"}
    for label in (
        "script",
        "module",
    ):  # the inference form of TorchScript is the network itself: random starts meet other roundings
        np.testing.assert_allclose(found[label], found["state"], atol=1.01 / 30)
    again = run_in(tmp_path, judging(models), models={"module": Normalised(network())})
    assert {cell.status for cell in again.record.cells} == {Status.CACHED}


def test_module_takes_the_place_of_a_model_of_the_same_label(tmp_path: Path) -> None:
    suite = of_state(save_state(tmp_path / "net.pth"))
    summary = run_in(tmp_path, suite, models={"mine": Normalised(network(seed=1))})
    assert {(cell.cell.model, cell.cell.arch) for cell in summary.record.cells} == {("mine", "Normalised")}


def test_step_of_a_module_in_memory_can_be_sent_to_another_process(tmp_path: Path) -> None:
    suite = judging({"mine": Normalised(network())})
    data = suite.dataset.load()
    step = plan_of(suite, data).training[Variant("mine")]
    sent = pickle.loads(pickle.dumps(step))  # noqa: S301 - its own
    assert sent.digest == step.digest
    context = Context(Store(tmp_path), data, torch.device("cpu"))
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(sent.classifier(context)(x), step.classifier(context)(x))


@pytest.mark.parametrize(
    ("models", "message"), [({"mine": 3}, r"models\.mine: expected a torch\.nn\.Module"), ({"a b": nn.Identity()}, "a b")]
)
def test_what_is_no_network_or_no_label_is_refused(models: dict[str, nn.Module], message: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=message):
        run_in(tmp_path, of_state(save_state(tmp_path / "net.pth")), models=models)


def test_finished_model_stands_beside_a_trained_one_whose_digests_stay(tmp_path: Path) -> None:
    trained = {"architecture": FACTORY, "recipe": {"name": "standard", "epochs": 1}}
    alone = planned(judging({"trained": trained}))
    both = planned(
        judging({"mine": {"architecture": FACTORY, "weights": str(save_state(tmp_path / "net.pth"))}, "trained": trained})
    )
    assert {step.digest for step in alone.steps} < {step.digest for step in both.steps}


def test_onnx_file_of_a_finished_model_can_be_exported_and_its_weights_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.deployment.model_files import export

    models = {
        "mine": {"architecture": FACTORY, "weights": str(save_state(tmp_path / "net.pth"))},
        "script": {"weights": str(save_script(tmp_path / "net.pt"))},
    }
    suite = judging(models, attacks={}, threat_model=None)
    run_in(tmp_path, suite)
    store = tmp_path / "store"
    assert export(suite, "mine", "onnx", out=tmp_path / "mine.onnx", store=store).is_file()
    with pytest.raises(
        ModelError, match=r"format: expected an ONNX format, as mine is a finished model, whose weights are .*net\.pth"
    ):
        export(suite, "mine", "pth", store=store)
    with pytest.raises(HarnessError, match=r"got TorchScript, which torch\.export does not take"):
        export(suite, "script", "onnx", out=tmp_path / "script.onnx", store=store)


def test_misfit_is_found_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_state(tmp_path / "net.pth")
    (tmp_path / "s.yaml").write_text(
        "name: s\ndataset: {name: digits, resolution: 32}\nmodels: {mine: {architecture: test_resnet, weights: net.pth}}\n"
    )
    for verb in ("validate", "plan", "run"):
        assert call(verb, "s.yaml") == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert [line for line in said if not line.startswith("INFO")] == [said[-1]]
        assert said[-1].startswith("harness: s.yaml: models.mine: test_resnet: the weights in net.pth do not fit: ")
    assert not (tmp_path / "results").exists()


def test_evaluate_writes_the_tables_and_the_report_of_a_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = harness.evaluate(Normalised(network()), {"name": "digits", "resolution": 16}, attacks=["fgsm"], limit=20, out=out)
    results = harness.load_results(out)
    assert list(results.cells["accuracy"]) == list(table["accuracy"])
    assert len(results.leaderboard) == 1
    assert "Normalised" in (out / "report.html").read_text()
    assert list((out / "curves").iterdir())


def test_evaluate_refuses_a_folder_with_results_of_a_suite(tmp_path: Path) -> None:
    summary = run_in(tmp_path, of_state(save_state(tmp_path / "net.pth")))
    with pytest.raises(HarnessError, match="expected the results of the suite evaluate, found those of judging"):
        harness.evaluate(Normalised(network()), {"name": "digits", "resolution": 16}, limit=20, out=summary.folder)
