"""What detectors look at, and what is trained anew on what they leave."""

from pathlib import Path

from harness.images import ImageData
from harness.planning.plan import Plan, plan_of
from harness.steps.detect import Detect
from harness.steps.train import Train
from harness.suites.base import Variant
from tests.poisoned_suite.suite import HARDENED, suite_of


def test_a_detector_looks_at_the_first_model_and_is_compared_with_its_clean_control(plan: Plan) -> None:
    looked = [(row.cell.model, row.cell.poison, row.cell.seed, row.label) for row in plan.detections]
    variants = (("backdoor", 0), ("brew", 0), ("brew", 1))
    assert looked == [("baseline", poison, seed, label) for poison, seed in variants for label in ("clustering", "strip")]
    controls = [(row.cell.seed, row.control.model.label) for row in plan.detections if row.control is not None]
    assert set(controls) == {(0, "baseline"), (1, "baseline, repetition 1")}


def test_what_is_trained_anew_starts_from_weights_that_were_filtered_too(folder: Path, digits: ImageData) -> None:
    plan = plan_of(suite_of(folder, HARDENED, "detectors.clustering.models=[hardened]"), digits)
    step = next(row for row in plan.detections if row.label == "clustering").after[0].step
    assert step is not None
    anew = step.inputs["model"]
    assert isinstance(anew, Train)
    assert anew.filtered_by is not None
    assert anew.warm_start is not None
    assert anew.warm_start.filtered_by == anew.filtered_by
    assert anew.filtered_by.model is plan.training[Variant("hardened", "backdoor", 0.1)]


def test_a_run_time_detector_is_skipped_where_nothing_comes_in_changed(plan: Plan) -> None:
    strip = {row.cell.poison: row for row in plan.detections if row.label == "strip"}
    assert strip["backdoor"].skip is None
    assert strip["backdoor"].after == ()
    assert strip["brew"].skip == "strip judges images as they come in, and gradient_matching changes none of them"


def test_without_retraining_a_detector_is_only_scored(folder: Path, digits: ImageData) -> None:
    plan = plan_of(suite_of(folder, "detectors.clustering.retrain=false"), digits)
    assert all(row.after == () for row in plan.detections)
    assert sum(isinstance(step, Detect) for step in plan.steps) == 3 + 1 + 2 + 1


def test_what_a_detector_leaves_is_trained_on_for_the_poisons_that_are_named(folder: Path, digits: ImageData) -> None:
    plan = plan_of(suite_of(folder, "detectors.clustering.retrain_for=[backdoor]"), digits)
    anew = {(row.cell.poison, row.cell.seed): bool(row.after) for row in plan.detections if row.label == "clustering"}
    assert anew == {("backdoor", 0): True, ("brew", 0): False, ("brew", 1): False}
    assert all(row.step is not None for row in plan.detections if row.label == "clustering")
