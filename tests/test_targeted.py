"""Targeted attacks as a suite asks for them, from the file to the tables."""

from pathlib import Path

import pandas as pd
import pytest

from harness import load_results
from harness.errors import SuiteError
from harness.planning.grid import cells_of
from harness.planning.plan import Plan, plan_of
from harness.records import Status
from harness.reports.names import WORST_CASE
from harness.running.runner import run
from harness.steps.evaluate import Sweep
from harness.suites.files import load_suite
from harness.suites.suite import Suite
from tests.nets import ON_DIGITS

TINY = (
    f"name: aimed{ON_DIGITS}"
    + """
models:
  baseline: {recipe: {name: standard, epochs: 2, batch_size: 64}}
threat_model: {norm: Linf, eps: [16/255, 64/255]}
attacks:
  pgd: {name: pgd, steps: 2}
  to_three: {name: pgd, steps: 2, target_class: 3}
evaluation: {limit: 60}
expectations:
  - {model: baseline, attack: to_three, eps: 64/255, metric: attack_success_rate, at_least: 0.01}
"""
)


def aimed(folder: Path, *overrides: str) -> Suite:
    path = folder / "aimed.yaml"
    path.write_text(TINY)
    return load_suite(path, overrides)


def planned(suite: Suite) -> Plan:
    return plan_of(suite, suite.dataset.load())


def sweeps(plan: Plan) -> dict[str, Sweep]:
    return {step.label: step for step in plan.steps if isinstance(step, Sweep)}


def test_cells_say_which_class_their_attack_aims_at(tmp_path: Path) -> None:
    cells = [row.cell for row in cells_of(aimed(tmp_path))]
    assert [(cell.attack, cell.targeted, cell.target_class) for cell in cells] == [
        ("none", False, None),
        *[("pgd", False, None)] * 2,
        *[("to_three", True, "3")] * 2,
    ]


def test_target_is_in_the_digest_of_its_attack_and_of_no_other(tmp_path: Path) -> None:
    three, four = planned(aimed(tmp_path)), planned(aimed(tmp_path, "attacks.to_three.target_class=4"))
    without = planned(aimed(tmp_path, "attacks.to_three={name: fgsm}"))
    digests = [{label: step.digest for label, step in sweeps(plan).items()} for plan in (three, four, without)]
    assert len({found["pgd"] for found in digests}) == 1
    assert len({found["to_three"] for found in digests}) == 3
    assert "target_class" not in sweeps(three)["pgd"].identity()
    assert len({cell.digest for cell in three.cells}) == len(three.cells)


def test_same_attack_may_aim_at_several_classes(tmp_path: Path) -> None:
    plan = planned(aimed(tmp_path, "attacks.to_four={name: pgd, steps: 2, target_class: 4}"))
    assert {label: step.target_class for label, step in sweeps(plan).items()} == {"pgd": None, "to_three": "3", "to_four": "4"}


@pytest.mark.parametrize("name", ["deepfool", "apgd-t", "strong", "random_noise"])
def test_attack_without_a_targeted_mode_is_skipped_with_the_reason(tmp_path: Path, name: str) -> None:
    norm = "L2" if name == "deepfool" else "Linf"
    suite = aimed(tmp_path, f"attacks.to_three={{name: {name}, target_class: 3, norm: {norm}}}", "expectations=[]")
    skipped = [row for row in cells_of(suite) if row.cell.attack == "to_three"]
    assert {row.skip for row in skipped} == {f"{name} has no targeted mode"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["attacks.to_three.target_class=tree"], "attacks.to_three.target_class: expected a class of the data set, got 'tree'"),
        (["attacks.to_three.target_class=33"], r"got '33'; did you mean '3'\?"),
    ],
)
def test_unknown_class_is_refused_before_any_training_and_the_nearest_one_named(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(SuiteError, match=message):
        planned(aimed(tmp_path, *overrides))


def test_transfer_of_a_targeted_attack_is_refused(tmp_path: Path) -> None:
    message = "transfer.0.attack: expected an untargeted attack, .* got 'to_three', which aims at 3"
    with pytest.raises(SuiteError, match=message):
        aimed(tmp_path, "transfer=[{attack: to_three, eps: 16/255}]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aimed")
    summary = run(aimed(folder), out=folder / "out", store=folder / "store", device="cpu")
    assert summary.ok
    return folder


def test_run_scores_the_target_alone_over_examples_of_other_classes(finished: Path) -> None:
    results = load_results(finished / "out")
    cells, samples = results.cells, results.samples
    for row in cells[cells["attack"] == "to_three"].to_dict("records"):
        found = samples[samples["digest"] == row["digest"]]
        eligible = found["clean_correct"] & (found["label"] != 3)
        assert eligible.equals(found["eligible"])
        assert found.loc[found["fooled"], "prediction"].eq(3).all()
        assert row["attack_success_rate"] == pytest.approx(found.loc[eligible, "fooled"].mean())
        assert row["robust_accuracy"] == pytest.approx((found["clean_correct"] & ~found["fooled"]).mean())
    assert cells.loc[cells["attack"] == "to_three", "attack_success_rate"].iloc[-1] > 0


def test_worst_case_of_a_run_counts_what_either_attack_fooled(finished: Path) -> None:
    results = load_results(finished / "out")
    worst = results.sweep[(results.sweep["attack"] == WORST_CASE)].sort_values("eps").iloc[-1]
    samples = results.samples[results.samples["condition"] == "attack"]
    is_adversarial = samples.groupby("example_id", observed=True)["fooled"].any()
    correct = samples.groupby("example_id", observed=True)["clean_correct"].any()
    assert worst["robust_accuracy"] == pytest.approx((correct & ~is_adversarial).mean())
    assert worst["attacks"] == "pgd+to_three"


def test_second_run_takes_the_targeted_rows_from_the_store(finished: Path) -> None:
    again = run(aimed(finished), out=finished / "again", store=finished / "store", device="cpu")
    assert {cell.status for cell in again.record.cells} == {Status.CACHED}
    tables = [pd.read_csv(finished / name / "cells.csv").drop(columns="status") for name in ("out", "again")]
    pd.testing.assert_frame_equal(*tables)
