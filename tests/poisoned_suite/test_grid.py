"""Which models are trained on which poison, the rows that each has, and the controls that it is compared with."""

from pathlib import Path
from typing import ClassVar, Literal

import pytest

from harness.images import ImageData
from harness.planning.grid import cells_of
from harness.planning.plan import Plan, plan_of
from harness.poisoning.base import POISONS
from harness.poisoning.label_flip import LabelFlip
from harness.steps.conditions import Targeted
from harness.steps.poison import Poisoning
from harness.steps.train import Train
from harness.suites.base import Variant
from harness.suites.files import load_suite
from tests.poisoned_suite.suite import FLIP, HARDENED, NOISE, suite_of


def test_every_model_is_also_trained_on_every_poison_it_names(folder: Path) -> None:
    brews = [Variant("baseline", "brew", 0.01, repetition) for repetition in (0, 1)]
    clean, backdoored = ([Variant(model, *poison) for model in ("baseline", "hardened")] for poison in ((), ("backdoor", 0.1)))
    assert suite_of(folder, HARDENED).variants() == (clean[0], backdoored[0], *brews, clean[1], backdoored[1])


def test_a_poisoned_model_has_a_row_for_its_trigger_or_its_targets(folder: Path) -> None:
    rows = [
        (row.cell.poison, row.cell.condition, row.cell.seed) for row in cells_of(suite_of(folder)) if row.cell.model == "baseline"
    ]
    clean = [(None, "clean", 0), (None, "attack", 0)]
    backdoor = [("backdoor", condition, 0) for condition in ("clean", "trigger", "attack")]
    brews = [("brew", "clean", 0), ("brew", "target", 0), ("brew", "attack", 0), ("brew", "clean", 1), ("brew", "target", 1)]
    assert rows == [*clean, *backdoor, *brews]


def test_a_flip_between_classes_has_a_row_for_its_success_and_random_labels_have_none(folder: Path) -> None:
    rows = cells_of(suite_of(folder, FLIP, NOISE))
    found = [(row.cell.poison, row.cell.condition, row.cell.target_class) for row in rows if row.cell.poison in ("flip", "noise")]
    flip = [("flip", condition, "9") for condition in ("clean", "target", "attack")]
    assert found == [*flip, *(("noise", condition, None) for condition in ("clean", "attack"))]


def test_repetitions_differ_in_seed_poison_and_training_but_not_in_what_is_judged(plan: Plan) -> None:
    first, second = (plan.training[Variant("baseline", "brew", 0.01, repetition)] for repetition in (0, 1))
    assert (first.seed, second.seed) == (0, 1)
    assert first.poison is not None
    assert second.poison is not None
    assert first.poison.digest != second.poison.digest
    assert len({cell.digest for cell in plan.cells}) == len(plan.cells)


def test_crafting_uses_the_first_model_trained_on_clean_data(plan: Plan) -> None:
    step = plan.training[Variant("baseline", "brew", 0.01)].poison
    assert step is not None
    assert step.proxy is plan.training[Variant("baseline")]


def test_a_poisoned_warm_start_is_poisoned_too(plan: Plan) -> None:
    hardened = plan.training[Variant("hardened", "backdoor", 0.1)]
    assert hardened.warm_start is plan.training[Variant("baseline", "backdoor", 0.1)]
    assert hardened.poison == hardened.warm_start.poison


def test_a_repetition_is_compared_with_a_clean_control_of_its_own_seed(plan: Plan) -> None:
    rows = [row for row in plan.cells if row.cell.condition == "target"]
    controls = [row.step.control for row in rows if isinstance(row.step, Targeted)]
    assert (
        [(control.seed, control.poison) for control in controls]
        == [(row.cell.seed, None) for row in rows]
        == [(0, None), (1, None)]
    )
    assert controls[0] is plan.training[Variant("baseline")]
    controls = {row.control.digest for row in plan.detections if row.control is not None and row.label == "clustering"}
    assert len(controls) == 2
    assert Variant("baseline", repetition=1) not in plan.training


def test_every_repetition_has_the_clean_row_of_its_control_beside_the_grid(folder: Path, digits: ImageData) -> None:
    plan = plan_of(suite_of(folder, HARDENED, "poisons.backdoor.seeds=3", "detectors={}"), digits)
    controls = [(row.cell.model, row.cell.seed, row.cell.poison, row.cell.condition) for row in plan.controls]
    assert controls == [(model, seed, None, "clean") for model in ("baseline", "hardened") for seed in (1, 2)]
    steps = [row.step for row in plan.controls]
    assert [step.inputs["model"].title for step in steps if step is not None] == [
        f"train {model}, repetition {number}" for model in ("baseline", "hardened") for number in (1, 2)
    ]
    assert {step.digest for step in steps if step is not None} <= {step.digest for step in plan.steps}


def test_the_shipped_suite_trains_for_minutes_and_leaves_out_no_kind_of_poison_or_detector() -> None:
    suite = load_suite("poisoning")
    plan = plan_of(suite, suite.dataset.load())
    trainings = [step for step in plan.steps if isinstance(step, Train)]
    assert sum(step.recipe.epochs for step in trainings) <= 120
    flips = [entry.plugin for entry in suite.poisons.values() if isinstance(entry.plugin, LabelFlip)]
    assert {flip.is_targeted for flip in flips} == {True, False}
    assert {"backdoor", "clean_label_backdoor", "gradient_matching"} <= {entry.plugin.name for entry in suite.poisons.values()}
    assert max(entry.seeds for entry in suite.poisons.values()) >= 3
    anew = {row.cell.poison for row in plan.detections if row.after}
    assert anew == {"backdoor", "fours_to_nines"}
    assert {row.cell.poison for row in plan.detections if row.step is not None} == set(suite.poisons)
    assert [row.cell.poison_rate for row in plan.cells if (row.cell.model, row.cell.condition) == ("pgd", "trigger")] == [
        0.01,
        0.05,
        0.1,
    ]


class Unmakeable(LabelFlip):
    """A poison that never runs."""

    name: Literal["unmakeable"] = "unmakeable"  # type: ignore[assignment]
    NEEDS_MODEL: ClassVar[bool] = True

    def supports(self, data: ImageData, rate: float, model: object) -> str | None:
        return None if model is None else "it takes a full moon"


def test_a_poison_that_cannot_be_made_skips_its_cells_with_the_reason(
    folder: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(POISONS, "_registered", {**POISONS._registered, "unmakeable": Unmakeable})
    plan = plan_of(suite_of(folder, "poisons.moon={name: unmakeable, rates: [0.1]}"), digits)
    cells = [cell for cell in plan.cells if cell.cell.poison == "moon"]
    assert {cell.skip for cell in cells} == {"it takes a full moon"}
    assert {row.skip for row in plan.detections if row.cell.poison == "moon"} == {"it takes a full moon"}
    assert not [step for step in plan.steps if isinstance(step, Poisoning) and step.label == "moon"]
