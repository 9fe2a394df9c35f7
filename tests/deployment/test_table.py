"""The rows of crossruntime.csv and their summary, from planted scores."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from harness.bundle import BundleCondition
from harness.deployment.scores import Score
from harness.deployment.table import (
    COLUMNS,
    SUMMARY_COLUMNS,
    Scored,
    clipped_lines,
    disagreements_of,
    summary_columns,
    summary_of,
    table_of,
)

CLEAN = BundleCondition(name="clean", kind="clean", digest="c0")
PGD = BundleCondition(name="pgd Linf 8-255", kind="attack", attack="pgd", norm="Linf", eps="8/255", clean="clean", digest="a1")


STORED = {
    PGD.model_copy(update={"name": "pgd rounded", "kind": "rounded8bit"}): 0.6,
    PGD.model_copy(update={"name": "pgd jpeg", "kind": "jpeg"}): 0.7,
}


def score(condition: BundleCondition, *, robust: float = math.nan, reasons: tuple[str, ...] = ()) -> Score:
    return Score(
        condition=condition,
        n_examples=100,
        accuracy=0.9,
        robust_accuracy=robust,
        attack_success_rate=math.nan,
        agreement=0.98,
        flips=2,
        flips_outside_margin=len(reasons),
        max_difference=0.5,
        p99_difference=0.25,
        images_per_second=50.0 if condition is CLEAN else 25.0,
        reasons=reasons,
    )


@pytest.fixture
def table() -> pd.DataFrame:
    broken = ("1 flip outside the margin of 0.001",)
    return table_of(
        [
            Scored("pgd", "PyTorch", "float32", [score(CLEAN), score(PGD, robust=0.5)]),
            Scored("pgd", "ONNX Runtime (C++)", "float32", [score(CLEAN), score(PGD, robust=0.4, reasons=broken)]),
            Scored("pgd", "ONNX Runtime (C++)", "int8", [score(CLEAN, reasons=broken), score(PGD, robust=0.3)]),
        ]
    )


def test_every_row_has_every_column_and_the_budget_as_a_decimal(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == COLUMNS
    assert table["eps"].tolist()[1] == pytest.approx(8 / 255)
    assert table["digest"].tolist() == ["c0", "a1"] * 3


def test_rule_of_agreement_holds_for_float32_alone(table: pd.DataFrame) -> None:
    assert table["agrees"].tolist() == [True, True, True, False, pd.NA, pd.NA]
    assert table["reasons"].tolist() == ["", "", "", "1 flip outside the margin of 0.001", "", ""]
    assert disagreements_of(table) == ["pgd, pgd Linf 8-255, ONNX Runtime (C++): 1 flip outside the margin of 0.001"]


def test_file_that_is_not_judged_neither_agrees_nor_disagrees() -> None:
    scores = [replace(score(CLEAN), judged=False, flips=None), replace(score(PGD, reasons=("1 example",)), judged=False)]
    table = table_of([Scored("mine", "ONNX Runtime (Python)", "float32", scores)])
    assert table["agrees"].tolist() == [pd.NA, False]
    assert table["flips"].isna().tolist() == [True, False]


def test_summary_has_a_row_for_each_model_runtime_and_precision(table: pd.DataFrame) -> None:
    rows = [dict(zip(SUMMARY_COLUMNS, row, strict=True)) for row in summary_of(table)]
    assert [(row["runtime"], row["precision"], row["agrees"]) for row in rows] == [
        ("PyTorch", "float32", "yes"),
        ("ONNX Runtime (C++)", "float32", "no"),
        ("ONNX Runtime (C++)", "int8", ""),
    ]
    assert [row["robust accuracy, lowest"] for row in rows] == ["50.0", "40.0", "30.0"]
    assert rows[0]["images/s"] == "33"
    assert summary_columns(table) == SUMMARY_COLUMNS


def test_summary_counts_attacks_alone_among_what_is_stored() -> None:
    trigger = BundleCondition(name="trigger rounded8bit", kind="rounded8bit", attack="backdoor", target_class=0, clean="clean")
    clean = BundleCondition(name="clean rounded8bit", kind="rounded8bit", clean="clean")
    stored = [score(condition, robust=rate) for condition, rate in STORED.items()]
    scores = [score(CLEAN), score(PGD, robust=0.5), *stored, score(trigger, robust=0.1), score(clean)]
    (row,) = summary_of(table_of([Scored("pgd", "PyTorch", "float32", scores)]))
    assert dict(zip(SUMMARY_COLUMNS, row, strict=True))["rounded"] == "60.0"


def test_summary_tells_what_storing_an_image_undoes() -> None:
    scores = [score(PGD, robust=0.5), *(score(condition, robust=rate) for condition, rate in STORED.items())]
    (row,) = summary_of(table_of([Scored("pgd", "PyTorch", "float32", [score(CLEAN), *scores])]))
    found = dict(zip(SUMMARY_COLUMNS, row, strict=True))
    assert (found["robust accuracy, lowest"], found["rounded"], found["JPEG"]) == ("50.0", "60.0", "70.0")


def test_images_made_against_another_network_give_transfer_and_no_robust_accuracy() -> None:
    trigger = BundleCondition(name="trigger", kind="trigger", attack="backdoor", target_class=0, clean="clean")
    stored = [score(condition, robust=rate) for condition, rate in STORED.items()]
    scores = [score(CLEAN), replace(score(PGD, robust=0.9), attack_success_rate=0.1), *stored, score(trigger, robust=0.2)]
    table = table_of([Scored("theirs", "ONNX Runtime (Python)", "float32", scores, made_against="ours")])
    assert table["transfer_accuracy"].tolist()[1:4] == [0.9, 0.6, 0.7]
    assert table["transfer_success_rate"].tolist()[1] == 0.1
    assert table[["robust_accuracy", "attack_success_rate"]][:4].isna().all(axis=None)
    assert table["robust_accuracy"].tolist()[4] == 0.2  # a trigger is made against no network
    (row,) = summary_of(table)
    found = dict(zip(summary_columns(table), row, strict=True))
    assert (found["transfer accuracy, lowest"], found["rounded"], found["JPEG"]) == ("90.0", "60.0", "70.0")
    assert "robust accuracy, lowest" not in found


def test_clipped_pixels_of_attacks_are_summed_up_and_said() -> None:
    stored = replace(score(next(iter(STORED)), robust=0.6), clipped_share=0.3)
    scores = [replace(score(CLEAN), clipped_share=0.5), replace(score(PGD, robust=0.5), clipped_share=0.195), stored]
    found = [Scored("pgd", "ONNX Runtime (Python)", "float32", [score(CLEAN), score(PGD)])]
    table = table_of([*found, Scored("pgd", "ONNX Runtime (Python)", "int8", scores)])
    assert table["clipped_share"].isna().tolist() == [True, True, False, False, False]
    assert [row[SUMMARY_COLUMNS.index("pixels clipped")] for row in summary_of(table)] == ["", "19.5"]
    (line,) = clipped_lines(table)
    assert line.startswith("pgd, int8: the file clips up to 30 % of the pixel values of an attack's images")
    assert clipped_lines(table[table["precision"] == "float32"]) == clipped_lines(table_of([])) == []


def test_empty_table_keeps_its_columns() -> None:
    assert tuple(table_of([]).columns) == COLUMNS
    assert list(summary_of(table_of([]))) == []
