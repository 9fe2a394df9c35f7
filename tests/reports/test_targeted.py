"""Rows of targeted attacks in the tables: scored for themselves, and in the worst case for what they are."""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from harness.records import CellResult, Verdict
from harness.reports.figures.charts import robustness_charts
from harness.reports.load import Results, load_results
from harness.reports.names import WORST_CASE, condition_label
from harness.reports.tables.scores import cell_row, per_class_columns, scored
from tests.reports.conftest import Write
from tests.reports.planted import BUDGETS, CLASSES, LABELS, N, attack_results, clean_result, digest_of, logits_of, trigger_result

WRONG = 4
"""Examples that the baseline gets wrong from the start."""
ELIGIBLE = (np.arange(N) >= WRONG) & (CLASSES.index("beet") != LABELS)


def targeted(hits: Sequence[int], budgets: Sequence[Fraction] = BUDGETS[:1], target: str = "beet") -> list[CellResult]:
    """A targeted attack on the baseline that turns the eligible examples among `hits` into the target, at every budget."""
    rows = []
    for result, eps in zip(attack_results("baseline", "pgd")[: len(budgets)], budgets, strict=True):
        is_adversarial = np.isin(np.arange(N), list(hits)) & ELIGIBLE
        predicted = np.where(is_adversarial, CLASSES.index(target), result.clean_logits.argmax(axis=1))
        cell = result.cell.model_copy(update={"attack": "to_beet", "targeted": True, "target_class": target, "eps": eps})
        condition = dataclasses.replace(result.condition, logits=logits_of(predicted), is_adversarial=is_adversarial, eps=eps)
        rows.append(dataclasses.replace(result, cell=cell, digest=digest_of("to_beet", eps), condition=condition))
    return rows


def worst(results: Results) -> pd.DataFrame:
    return results.sweep[results.sweep["attack"] == WORST_CASE]


def test_success_rate_leaves_out_the_target_class_and_robust_accuracy_keeps_it() -> None:
    (result,) = targeted(range(30))
    cell = scored(result, CLASSES)
    row = cell_row(result, cell)
    hits = (ELIGIBLE & (np.arange(N) < 30)).sum()
    assert row["attack_success_rate"] == pytest.approx(hits / ELIGIBLE.sum())
    assert row["robust_accuracy"] == pytest.approx((N - WRONG - hits) / N)
    assert (row["targeted"], row["target_class"]) == (True, "beet")
    beet = {name: values[0] for name, values in per_class_columns(cell).items()}
    assert math.isnan(beet["attack_success_rate"])
    assert beet["robust_accuracy"] == pytest.approx((LABELS[WRONG:] == 0).sum() / (LABELS == 0).sum())


def test_rows_say_whether_they_are_targeted_and_those_without_an_attack_say_nothing(written: Write) -> None:
    cells = written([clean_result("baseline"), *attack_results("baseline", "fgsm")[:1], *targeted(range(9))]).cells
    assert cells["targeted"].tolist() == [pd.NA, False, True]
    assert cells["attack"].tolist() == ["none", "fgsm", "to_beet"]


def test_sweep_row_of_a_targeted_attack_has_its_own_success_rate_and_interval(written: Write) -> None:
    results = written([clean_result("baseline"), *targeted(range(30))])
    (row,) = results.sweep.to_dict("records")
    assert row["attack_success_rate"] == pytest.approx(results.cells["attack_success_rate"].iloc[1])
    assert row["attack_success_rate_low"] < row["attack_success_rate"] < row["attack_success_rate_high"]
    assert (row["targeted"], row["target_class"]) == (True, "beet")


def test_images_that_reached_a_target_are_misclassified_and_count_in_the_worst_case(written: Write) -> None:
    fgsm = attack_results("baseline", "fgsm")[:1]  # fools 4 to 13 of 40
    hits = range(10, 30)
    results = written([clean_result("baseline"), *fgsm, *targeted(hits)])
    (row,) = worst(results).to_dict("records")
    is_adversarial = fgsm[0].condition.is_adversarial | (ELIGIBLE & np.isin(np.arange(N), hits))
    assert row["robust_accuracy"] == pytest.approx((N - WRONG - is_adversarial.sum()) / N)
    assert row["attack_success_rate"] == pytest.approx(is_adversarial.sum() / (N - WRONG))
    assert (row["attacks"], row["targeted"]) == ("fgsm+to_beet", False)
    assert pd.isna(row["target_class"])
    board = results.leaderboard.iloc[0]
    assert board["robust_accuracy"] == row["robust_accuracy"]
    assert pd.isna(board["target_class"])


def test_what_withstood_a_targeted_attack_alone_is_not_called_robust(written: Write) -> None:
    results = written([clean_result("baseline"), *targeted(())])
    assert worst(results).empty
    board = results.leaderboard.iloc[0]
    assert board[["norm", "eps", "robust_accuracy", "strongest_attack", "mean_robust_accuracy"]].isna().all()
    assert board["clean_accuracy"] == pytest.approx(0.9)


def test_budgets_of_targeted_attacks_alone_have_no_worst_case_and_move_no_reference(written: Write) -> None:
    small, large = BUDGETS[0], Fraction(64, 255)
    results = written([clean_result("baseline"), *attack_results("baseline", "fgsm"), *targeted(range(30), [small, large])])
    assert worst(results)["eps"].tolist() == pytest.approx([float(eps) for eps in BUDGETS])
    assert results.leaderboard.iloc[0]["eps"] == pytest.approx(float(BUDGETS[1]))


def test_doubt_about_a_targeted_row_is_said_of_the_worst_case_that_it_is_part_of(written: Write) -> None:
    aimed = [
        dataclasses.replace(row, verdict=Verdict.INVALID, verdict_reasons=("images outside the ball",)) for row in targeted([9])
    ]
    board = written([clean_result("baseline"), *attack_results("baseline", "pgd")[:1], *aimed]).leaderboard.iloc[0]
    assert (board["verdict"], board["verdict_reasons"]) == (
        "INVALID",
        "to_beet 2/255 towards beet: images outside the ball",
    )


def test_poisons_target_on_the_leaderboard_is_not_the_attacks(written: Write) -> None:
    poison = {"poison": "backdoor", "poison_rate": 0.05, "target_class": "carrot"}
    clean = clean_result("baseline")
    rows = [
        dataclasses.replace(clean, cell=clean.cell.model_copy(update=poison), digest="poisoned"),
        *(
            dataclasses.replace(row, cell=row.cell.model_copy(update={**poison, "target_class": "beet"}))
            for row in targeted(range(9))
        ),
        trigger_result("baseline", 0.05, range(9), target="carrot"),
    ]
    assert written(rows[::-1]).leaderboard["target_class"].tolist() == ["carrot"]


def test_chart_and_label_name_the_target(written: Write) -> None:
    results = written([clean_result("baseline"), *targeted(range(9))])
    (chart,) = robustness_charts(results)
    assert (chart.title, chart.y_label) == ("to_beet towards beet, Linf", "robust accuracy against this target")
    assert condition_label(results.cells.to_dict("records")[1]) == "to_beet 2/255 towards beet"


def test_runs_from_before_targeted_attacks_are_read_as_untargeted(written: Write) -> None:
    results = written([clean_result("baseline"), *attack_results("baseline", "pgd")])
    results.cells.drop(columns="targeted").to_csv(results.folder / "cells.csv", index=False)
    results.sweep.drop(columns=["targeted", "target_class"]).to_csv(results.folder / "sweep.csv", index=False)
    older = load_results(results.folder)
    assert older.cells["targeted"].isna().all()
    assert [chart.title for chart in robustness_charts(older)] == [chart.title for chart in robustness_charts(results)]
    assert condition_label(older.cells.to_dict("records")[1]) == "pgd 2/255"
