import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.records import CELL_COLUMNS, Status
from harness.reports.tables.scores import before_after_row, cell_row, per_class_columns, scored
from tests.reports.planted import CLASSES, LABELS, N, attack_results, clean_result, corruption_result, lost_result, trigger_result


def test_an_attack_row_carries_the_planted_numbers() -> None:
    result = attack_results("baseline", "pgd")[1]
    row = cell_row(result, scored(result, CLASSES))
    assert tuple(row) == CELL_COLUMNS
    assert row["eps"] == float(Fraction(4, 255))
    assert row["n_examples"] == N
    assert row["clean_accuracy"] == pytest.approx(36 / 40)
    assert row["accuracy"] == row["robust_accuracy"] == pytest.approx(6 / 40)
    assert row["attack_success_rate"] == pytest.approx(30 / 36)
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert (row["forwards"], row["backwards"], row["max_violation"]) == (10 * N, 9 * N, 0.0)


def test_a_clean_row_has_no_robust_accuracy_and_no_violation() -> None:
    result = clean_result("pgd")
    row = cell_row(result, scored(result, CLASSES))
    assert row["accuracy"] == row["clean_accuracy"] == pytest.approx(32 / 40)
    assert [row[name] for name in ("robust_accuracy", "attack_success_rate", "max_violation")] == [None] * 3


def test_a_failed_cell_has_no_number_at_all() -> None:
    result = lost_result("pgd", Status.FAILED, "RuntimeError:\n  out of memory", condition="attack", attack="square")
    row = cell_row(result, scored(result, CLASSES))
    numbers = CELL_COLUMNS[CELL_COLUMNS.index("n_examples") : CELL_COLUMNS.index("verdict")]
    assert all(row[name] is None for name in numbers)
    assert row["reason"] == "RuntimeError: out of memory"


def test_backdoor_success_leaves_out_the_target_class_and_the_initially_wrong() -> None:
    hits = range(20)
    result = trigger_result("baseline", 0.05, hits)
    row = cell_row(result, scored(result, CLASSES))
    eligible = (np.arange(N) >= 4) & (LABELS != 0)
    assert row["attack_success_rate"] == pytest.approx((eligible & (np.arange(N) < 20)).sum() / eligible.sum())
    assert row["robust_accuracy"] is None


def test_before_and_after_differ_by_the_difference() -> None:
    cell = scored(attack_results("pgd", "fgsm")[2], CLASSES)
    assert cell is not None
    row = before_after_row(cell)
    assert (row["accuracy_before"], row["accuracy_after"]) == pytest.approx((0.8, 0.5))
    for score in ("accuracy", "precision_macro", "recall_macro", "f1_macro", "roc_auc_macro"):
        assert row[f"{score}_difference"] == pytest.approx(row[f"{score}_after"] - row[f"{score}_before"])


def test_class_rates_add_up_to_the_rates_of_the_cell() -> None:
    result = attack_results("pgd", "pgd")[1]
    cell = scored(result, CLASSES)
    assert cell is not None
    columns = per_class_columns(cell)
    support = columns["support"]
    assert sum(support) == N
    for rate, column in (("accuracy", "recall"), ("robust_accuracy", "robust_accuracy")):
        assert np.average(columns[column], weights=support) == pytest.approx(cell_row(result, cell)[rate])


def test_a_corruption_is_scored_on_its_own_images() -> None:
    result = corruption_result("baseline", "fog", 3, wrong=10)
    row = cell_row(result, scored(result, CLASSES))
    assert (row["accuracy"], row["clean_accuracy"], row["robust_accuracy"]) == (0.75, 0.9, None)


def test_logits_of_another_shape_are_refused() -> None:
    result = dataclasses.replace(clean_result("pgd"), labels=LABELS[:-1])
    with pytest.raises(HarnessError, match=r"logits: expected the shape \(39, 3\), got \(40, 3\)"):
        scored(result, CLASSES)


def test_an_unknown_target_class_is_refused() -> None:
    result = trigger_result("baseline", 0.1, ())
    with pytest.raises(HarnessError, match=r"target_class: expected one of beet, carrot, null, got 'turnip'"):
        scored(dataclasses.replace(result, cell=result.cell.model_copy(update={"target_class": "turnip"})), CLASSES)
