"""Two runs compared: what is joined, what the numbers are, and what the comparison says at its end."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.records import CellResult, Status
from harness.reports.compare import NOT_IN_WORST_CASE, Comparison, compare, comparison_json
from harness.reports.comparison.numbers import ComparedCondition, Outcome
from harness.reports.comparison.tables import comparison_tables
from harness.reports.load import load_results
from harness.reports.paired import holm
from tests.reports.conftest import Write
from tests.reports.flips import model, reversed_cell, suite
from tests.reports.planted import (
    CLASSES,
    N,
    attack_results,
    clean_result,
    corruption_result,
    digest_of,
    logits_of,
    lost_result,
    predicted_with_errors,
)


def of(comparison: Comparison, condition: str) -> ComparedCondition:
    (found,) = [it for it in comparison.conditions if it.condition == condition]
    return found


def with_errors(name: str, wrong: list[int]) -> CellResult:
    cell, logits = clean_result("baseline"), logits_of(predicted_with_errors(wrong))
    assert cell.condition is not None
    return dataclasses.replace(
        cell,
        cell=cell.cell.model_copy(update={"model": name}),
        digest=digest_of(name, tuple(wrong)),
        clean_logits=logits,
        condition=dataclasses.replace(cell.condition, logits=logits),
    )


def exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return int(stop.value.code or 0)


def test_a_run_compared_with_itself_has_no_change(written: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(model("a", 2, 24), "one", suite=suite())
    found = compare(tmp_path / "one", tmp_path / "one")
    assert [it.condition for it in found.conditions] == ["clean", "pgd 2/255 Linf", "pgd 4/255 Linf", "pgd 8/255 Linf"]
    assert {it.outcome for it in found.conditions} == {Outcome.NO_CHANGE}
    assert found.sentence == "No significant change from A to B in 4 conditions."
    assert (found.classes, found.images, found.apart) == ((), (), ())
    assert exit_code("compare", tmp_path / "one", tmp_path / "one") == 0
    assert found.sentence in capsys.readouterr().out


def test_counts_tests_and_intervals_of_flips_are_those_of_the_same_examples(written: Write, tmp_path: Path) -> None:
    written([with_errors("a", [0, 1])], "one", suite=suite())
    written([with_errors("a", [1, *range(10, 19)])], "two", suite=suite())
    found = of(compare(tmp_path / "one", tmp_path / "two"), "clean")
    assert (found.n, found.lost, found.gained) == (40, 9, 1)
    assert (found.accuracy_a, found.accuracy_b, found.difference) == pytest.approx((38 / 40, 30 / 40, -8 / 40))
    assert found.p_value == found.p_corrected == pytest.approx(binomtest(1, 10).pvalue)
    assert found.outcome is Outcome.LOSS
    # the standard error of the mean of 9 x -1, 1 x +1 and 30 x 0 is 0.0717
    assert (found.difference_low, found.difference_high) == pytest.approx((-0.2 - 1.96 * 0.0717, -0.2 + 1.96 * 0.0717), abs=0.03)


def test_a_significant_loss_exits_with_one_and_a_gain_with_zero(
    written: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    written([with_errors("a", [0])], "one", suite=suite())
    written([with_errors("a", list(range(12)))], "two", suite=suite())
    assert exit_code("compare", one, two) == 1
    assert "B loses significantly in 1 (most: a on clean: -27.5 points" in capsys.readouterr().out
    assert exit_code("compare", two, one) == 0
    assert "gains significantly in 1" in capsys.readouterr().out


def test_a_loss_that_may_be_chance_exits_with_zero(written: Write, tmp_path: Path) -> None:
    written([with_errors("a", [0])], "one", suite=suite())
    written([with_errors("a", list(range(6)))], "two", suite=suite())  # 5 discordant examples: p = 0.0625
    assert exit_code("compare", tmp_path / "one", tmp_path / "two") == 0


def test_p_values_are_corrected_over_all_conditions(written: Write, tmp_path: Path) -> None:
    written([*model("a", 2, 24), with_errors("b", [])], "one", suite=suite())
    written([*model("a", 2, 18), with_errors("b", list(range(7)))], "two", suite=suite())
    rows = compare(tmp_path / "one", tmp_path / "two").conditions
    assert [it.p_value for it in rows] == pytest.approx([1, *[2 / 2**6] * 3, 2 / 2**7])
    assert [it.p_corrected for it in rows] == pytest.approx(holm([it.p_value for it in rows]))
    assert {it.outcome for it in rows} == {Outcome.NO_CHANGE}


def test_renamed_models_and_another_order_of_the_examples_are_joined(written: Write, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    written(model("old", 2, 24), "one", suite=suite())
    backwards = [reversed_cell(cell) for cell in model("new", 2, 20)]
    names = tuple(f"other-{index}" for index in range(N))
    hashes = tuple(digest_of(index) for index in reversed(range(N)))
    written(backwards, "two", suite=suite("other"), example_hashes=hashes, example_ids=names)
    found = compare(one, two, models={"old": "new"})
    row = of(found, "pgd 4/255 Linf")
    assert (row.model, row.n, row.lost, row.gained) == ("old -> new", 40, 4, 0)
    assert {it.example for it in found.images} == {f"image-{index}.png" for index in range(16, 20)}
    assert {(it.change, it.prediction_a == it.class_name) for it in found.images} == {("lost", True)}
    with pytest.raises(HarnessError, match=r"found none \(4 x only in A; 4 x only in B\)"):
        compare(one, two)


def test_a_model_renamed_to_the_label_of_another_one_is_the_one_that_is_compared(written: Write, tmp_path: Path) -> None:
    written([*model("new", 2, 10), *model("old", 2, 24)], "one", suite=suite())
    written(model("new", 2, 20), "two", suite=suite())
    found = compare(tmp_path / "one", tmp_path / "two", models={"old": "new"})
    assert {it.model for it in found.conditions} == {"old -> new"}
    row = of(found, "pgd 4/255 Linf")
    assert (row.lost, row.gained) == (4, 0)
    assert {(it.model, it.reason) for it in found.apart} == {("new", "only in A")}


@pytest.mark.parametrize("models", [{"nowhere": "new"}, {"old": "nowhere"}])
def test_a_renaming_names_models_that_exist(written: Write, tmp_path: Path, models: dict[str, str]) -> None:
    written(model("old", 2, 24), "one", suite=suite())
    written(model("new", 2, 24), "two", suite=suite())
    with pytest.raises(HarnessError, match=r"--models: .*: expected one of (old|new), got 'nowhere'"):
        compare(tmp_path / "one", tmp_path / "two", models=models)


@pytest.mark.parametrize("given", ["old", "=new", "old="])
def test_a_renaming_has_two_sides(written: Write, tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    written(model("old", 2, 24), "one", suite=suite())
    assert exit_code("compare", tmp_path / "one", tmp_path / "one", "--models", given) == 2
    assert "--models: expected old=new" in capsys.readouterr().err


def test_nothing_in_common_exits_with_two(written: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(model("a", 2, 24), "one", suite=suite())
    written(model("a", 2, 24), "two", suite=suite(), example_hashes=tuple(f"other {index}" for index in range(N)))
    assert exit_code("compare", tmp_path / "one", tmp_path / "two") == 2
    printed = capsys.readouterr().err
    assert "4 x no example in common" in printed
    assert len(printed.strip().splitlines()) <= 2


def test_examples_that_only_one_run_has_are_left_out_and_counted(written: Write, tmp_path: Path) -> None:
    hashes = tuple(digest_of(index) for index in range(N))
    written([with_errors("a", [0])], "one", suite=suite())
    written([with_errors("a", [0])], "two", suite=suite(), example_hashes=(*hashes[:30], *(f"new {i}" for i in range(10))))
    row = of(compare(tmp_path / "one", tmp_path / "two"), "clean")
    assert (row.n, row.only_a, row.only_b, row.accuracy_a) == (30, 10, 10, pytest.approx(29 / 30))


def test_copies_of_an_image_are_joined_one_to_one(written: Write, tmp_path: Path) -> None:
    hashes = tuple(digest_of(index % 3, index // 6) for index in range(N))  # each image twice, with the same class
    written([with_errors("a", [0])], "one", suite=suite(), example_hashes=hashes)
    assert of(compare(tmp_path / "one", tmp_path / "one"), "clean").n == N


def test_classes_in_another_order_are_the_same_classes(written: Write, tmp_path: Path) -> None:
    order = [2, 0, 1]  # new index -> old one
    cell = with_errors("a", [0, 1])
    assert cell.labels is not None
    assert cell.clean_logits is not None
    assert cell.condition is not None
    logits = cell.clean_logits[:, order]
    turned = dataclasses.replace(
        cell,
        labels=np.argsort(order)[cell.labels],
        clean_logits=logits,
        condition=dataclasses.replace(cell.condition, logits=logits),
    )
    written([cell], "one", suite=suite())
    written([turned], "two", suite=suite(), class_names=tuple(CLASSES[index] for index in order))
    row = of(compare(tmp_path / "one", tmp_path / "two"), "clean")
    assert (row.n, row.lost, row.gained) == (N, 0, 0)


def test_examples_without_hashes_are_joined_by_name(written: Write, tmp_path: Path) -> None:
    for name in ("one", "two"):
        path = written([with_errors("a", [0])], name, suite=suite()).folder / "samples.parquet"
        pd.read_parquet(path).drop(columns="content_hash").to_parquet(path)
    assert of(compare(tmp_path / "one", tmp_path / "two"), "clean").n == N


def test_without_the_examples_there_is_nothing_to_compare(
    written: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (written([with_errors("a", [0])], "one", suite=suite()).folder / "samples.parquet").unlink()
    assert exit_code("compare", tmp_path / "one", tmp_path / "one") == 2
    assert "expected samples.parquet, which has the examples, found none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (suite(attacks={"pgd": {"plugin": {"name": "pgd", "steps": 20}}}), "another attack: steps: 10 -> 20"),
        (suite(evaluation={"best_of_iterates": False}), ""),
        (suite(attacks={"pgd": {"plugin": {"name": "pgd", "steps": 10, "new_field": 1}}}), ""),
    ],
)
def test_attacks_with_other_settings_are_not_compared(written: Write, tmp_path: Path, change: dict[str, Any], why: str) -> None:
    written(model("a", 2, 24), "one", suite=suite())
    written(model("a", 2, 10), "two", suite=change)
    found = compare(tmp_path / "one", tmp_path / "two")
    assert [it.reason for it in found.apart] == [why] * 3 * bool(why)
    assert len(found.conditions) == (1 if why else 4)


def test_differences_are_b_minus_a(written: Write) -> None:
    a = written([clean_result("pgd"), corruption_result("pgd", "fog", 1, 0)], "a")
    b = written([clean_result("pgd"), corruption_result("pgd", "fog", 1, 30)], "b")
    fog = of(compare(a.folder, b.folder), "fog 1")
    assert fog.difference == pytest.approx(-0.75)
    assert fog.outcome is Outcome.LOSS


def test_cells_of_one_run_only_and_lost_ones_are_shown_as_such(written: Write) -> None:
    lost = lost_result("pgd", Status.FAILED, "no such file", condition="corruption", corruption="fog", severity=1)
    a = written([clean_result("baseline"), clean_result("pgd"), lost], "a")
    b = written([clean_result("pgd"), corruption_result("pgd", "fog", 1, 30), *attack_results("pgd", "fgsm")[:1]], "b")
    found = compare(a.folder, b.folder)
    assert [(it.model, it.condition) for it in found.conditions] == [("pgd", "clean")]
    assert [tuple(it) for it in found.apart] == [
        ("baseline", "clean", "only in A"),
        ("pgd", "fog 1", "no number in A: failed: no such file"),
        ("pgd", "fgsm 2/255 Linf", "only in B"),
    ]
    assert found.sentence == "No significant change from A to B in 1 condition; 3 more could not be compared."


def test_changed_settings_are_named_where_no_suite_is_recorded(written: Write, tmp_path: Path) -> None:
    cell = attack_results("pgd", "pgd")[0]
    written([clean_result("pgd"), cell], "a")
    stronger = cell.cell.model_copy(update={"steps": 20, "alpha": 0.5})
    written([clean_result("pgd"), dataclasses.replace(cell, cell=stronger)], "b")
    (apart,) = compare(tmp_path / "a", tmp_path / "b").apart
    assert "steps: 10 -> 20" in apart.reason


def test_a_budget_more_below_is_another_attack_where_successes_add_up(written: Write, tmp_path: Path) -> None:
    small, middle, _ = attack_results("pgd", "pgd")
    written([clean_result("pgd"), small, middle], "a")
    written([clean_result("pgd"), middle], "b")
    reasons = [it.reason for it in compare(tmp_path / "a", tmp_path / "b").apart]
    assert reasons == ["only in A", "another attack: budgets up to it: 2/255, 4/255 -> 4/255"]


def test_a_changed_training_is_named_and_compared_all_the_same(written: Write, tmp_path: Path) -> None:
    written([clean_result("baseline")], "a")
    written([clean_result("pgd")], "b")
    (row,) = compare(tmp_path / "a", tmp_path / "b", models={"baseline": "pgd"}).conditions
    assert row.changed_training == "recipe: standard -> pgd"


def test_the_area_under_the_curve_is_that_of_the_trapezoids(written: Write, tmp_path: Path) -> None:
    # robust at 0, 2, 4 and 8 of 255: 38, 24, 24, 24 of 40 against 38, 20, 20, 20
    written(model("a", 2, 24), "one", suite=suite())
    written(model("a", 2, 20), "two", suite=suite())
    (area,) = compare(tmp_path / "one", tmp_path / "two").areas
    by_hand = [(2 * (38 + robust) / 2 + 6 * robust) / 8 / 40 for robust in (24, 20)]
    assert (area.attack, area.budgets, area.n) == ("pgd", "2/255, 4/255, 8/255", 40)
    assert (area.area_a, area.area_b) == pytest.approx(tuple(by_hand))
    assert area.difference == pytest.approx(by_hand[1] - by_hand[0])
    assert area.difference_low < area.difference < area.difference_high < 0


def test_the_worst_case_over_several_attacks_is_a_condition(written: Write, tmp_path: Path) -> None:
    written(model("a", 2, 24, ("fgsm", "pgd")), "one", suite=suite())
    written(model("a", 2, 20, ("fgsm", "pgd")), "two", suite=suite())
    found = compare(tmp_path / "one", tmp_path / "two")
    row = of(found, "worst_case 4/255 Linf")
    assert (row.lost, row.gained) == (4, 0)
    assert [it.attack for it in found.areas] == ["fgsm", "pgd", "worst_case"]
    board = load_results(tmp_path / "one").sweep
    worst = board[(board["attack"] == "worst_case") & np.isclose(board["eps"], 4 / 255)]
    assert row.accuracy_a == pytest.approx(worst["robust_accuracy"].item())


def test_there_is_no_worst_case_where_an_attack_is_not_compared(written: Write, tmp_path: Path) -> None:
    written(model("a", 2, 24, ("fgsm", "pgd")), "one", suite=suite())
    written(model("a", 2, 24, ("pgd",)), "two", suite=suite())
    found = compare(tmp_path / "one", tmp_path / "two")
    assert not [it for it in found.conditions if it.condition.startswith("worst_case")]


def test_an_attack_with_other_examples_in_common_is_named_and_in_no_worst_case(written: Write, tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(model("a", 2, 24, ("fgsm", "pgd")), name, suite=suite())
    samples, cells = load_results(tmp_path / "two").samples, load_results(tmp_path / "two").cells
    (digest,) = cells.loc[(cells["attack"] == "pgd") & np.isclose(cells["eps"].astype(float), 4 / 255), "digest"]
    lost = samples.index[samples["digest"] == digest][:5]
    samples.drop(index=lost).to_parquet(tmp_path / "two" / "samples.parquet", index=False)
    found = compare(tmp_path / "one", tmp_path / "two")
    assert of(found, "pgd 4/255 Linf").n == N - 5
    assert [it.condition for it in found.conditions if it.condition.startswith("worst_case")] == ["worst_case 2/255 Linf"]
    (apart,) = found.apart
    assert (apart.condition, apart.reason) == ("pgd 4/255 Linf", NOT_IN_WORST_CASE)


def test_the_worst_case_has_the_successes_at_smaller_budgets_that_sweep_csv_has(written: Write, tmp_path: Path) -> None:
    for name, robust in (("one", 24), ("two", 20)):
        weaker = [it for it in model("a", 2, robust + 12, ("fgsm",)) if it.cell.condition == "attack"]
        stronger = [it for it in model("a", 2, robust, ("pgd",)) if it.cell.eps is None or it.cell.eps < Fraction("3/255")]
        written([*stronger, *weaker], name, suite=suite())
    found = compare(tmp_path / "one", tmp_path / "two")
    row = of(found, "worst_case 4/255 Linf")
    for folder, accuracy in (("one", row.accuracy_a), ("two", row.accuracy_b)):
        board = load_results(tmp_path / folder).sweep
        worst = board[(board["attack"] == "worst_case") & np.isclose(board["eps"], 4 / 255)]
        assert accuracy == pytest.approx(worst["robust_accuracy"].item())


def test_classes_and_images_that_changed_are_named(written: Write, tmp_path: Path) -> None:
    written([with_errors("a", [3])], "one", suite=suite())
    written([with_errors("a", [0, 6, 1])], "two", suite=suite())
    found = compare(tmp_path / "one", tmp_path / "two")
    assert [(it.class_name, it.n, it.lost, it.gained) for it in found.classes] == [("beet", 14, 2, 1), ("carrot", 13, 1, 0)]
    assert [(it.example, it.change, it.prediction_a, it.prediction_b) for it in found.images] == [
        ("image-0.png", "lost", "beet", "carrot"),
        ("image-1.png", "lost", "carrot", "null"),
        ("image-3.png", "gained", "carrot", "beet"),
        ("image-6.png", "lost", "beet", "carrot"),
    ]
    titles = [table.title for table in comparison_tables(found)]
    assert titles == ["Conditions", "Classes that changed", "Images that changed"]


def test_json_holds_everything(written: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(model("a", 2, 24), "one", suite=suite())
    written(model("a", 2, 4), "two", suite=suite())
    assert exit_code("compare", tmp_path / "one", tmp_path / "two", "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(comparison_json(compare(tmp_path / "one", tmp_path / "two"))))
    assert printed["losses"] == 3
    assert {"model", "condition", "n", "p_value", "p_corrected", "outcome"} <= set(printed["conditions"][0])
    assert len(printed["images"]) == 3 * 20
