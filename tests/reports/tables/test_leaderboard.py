import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.records import CellResult, Status, Verdict
from harness.reports.load import Results
from harness.reports.tables.leaderboard import leaderboard_of, merge
from harness.reports.tables.reference import reference_budget
from tests.reports.conftest import Write
from tests.reports.planted import BUDGETS, attack_results, clean_result, corruption_result, grid, lost_result, trigger_result


def row(board: pd.DataFrame, model: str) -> pd.Series:
    return board[board["model"] == model].iloc[0]


def judged(results: list[CellResult], verdict: Verdict, *reasons: str) -> list[CellResult]:
    return [dataclasses.replace(result, verdict=verdict, verdict_reasons=reasons) for result in results]


def test_models_are_ranked_by_the_worst_case_at_the_middle_budget(results: Results) -> None:
    board = results.leaderboard
    assert list(board["model"]) == ["pgd", "baseline"]
    assert list(board["rank"]) == [1, 2]
    assert set(board["eps"]) == {float(BUDGETS[1])}
    assert list(board["robust_accuracy"]) == pytest.approx([22 / 40, 6 / 40])
    assert list(board["mean_robust_accuracy"]) == pytest.approx([(27 + 22 + 14) / 120, (20 + 6 + 0) / 120])
    assert list(board["robust_accuracy[Linf 8/255]"]) == pytest.approx([14 / 40, 0])
    assert list(board["strongest_attack"]) == ["pgd", "pgd"]
    assert list(board["attacks"]) == ["fgsm+pgd", "fgsm+pgd"]


def test_the_file_says_what_the_function_says(results: Results) -> None:
    found = leaderboard_of(results).to_csv(index=False)
    assert found == (results.folder / "leaderboard.csv").read_text()


def test_costs_are_passes_for_each_example_over_all_attacks(results: Results) -> None:
    assert row(results.leaderboard, "pgd")[["forwards_per_example", "backwards_per_example", "attack_seconds"]].tolist() == [
        60,
        54,
        12,
    ]


def test_the_verdict_is_that_of_the_deciding_attack(written: Write) -> None:
    cells = [clean_result("pgd"), *attack_results("pgd", "fgsm")]
    alone, accompanied = written(cells, "alone"), written([*cells, *attack_results("pgd", "pgd")], "both")
    assert row(alone.leaderboard, "pgd")["verdict"] == "SUSPECT"
    assert row(alone.leaderboard, "pgd")["verdict_reasons"] == "fgsm 4/255: single step: an upper bound"
    assert row(accompanied.leaderboard, "pgd")["verdict"] == "PASS"


def test_a_doubt_about_a_weaker_attack_is_said_and_counts_where_no_gradient_steps_supersede_it(written: Write) -> None:
    weaker, steps = attack_results("pgd", "fgsm"), attack_results("pgd", "pgd")
    black_box = [
        dataclasses.replace(
            result,
            cell=result.cell.model_copy(update={"attack": "square", "steps": None, "alpha": None}),
            digest=f"square {result.digest}",
            condition=dataclasses.replace(result.condition, backwards=0),
        )
        for result in steps
    ]
    masked, superseded = (
        row(written([clean_result("pgd"), *weaker, *judged(rows, Verdict.PASS)], name).leaderboard, "pgd")
        for rows, name in ((black_box, "masked"), (steps, "superseded"))
    )
    assert [masked["strongest_attack"], superseded["strongest_attack"]] == ["square", "pgd"]
    assert [masked["verdict"], superseded["verdict"]] == ["SUSPECT", "PASS"]
    assert masked["verdict_reasons"] == superseded["verdict_reasons"] == "fgsm 4/255: single step: an upper bound"


def test_of_attacks_that_leave_the_same_the_generally_stronger_one_is_named(written: Write) -> None:
    weak, strong = attack_results("baseline", "fgsm"), attack_results("baseline", "pgd")
    tied = dataclasses.replace(
        weak[1], condition=dataclasses.replace(weak[1].condition, is_adversarial=strong[1].condition.is_adversarial)
    )
    cells = judged([weak[0], tied, weak[2], *strong], Verdict.PASS)
    assert row(written(cells).leaderboard, "baseline")["strongest_attack"] == "pgd"


def test_an_invalid_number_ranks_last_however_good_it_looks(written: Write) -> None:
    invalid = judged(attack_results("pgd", "pgd"), Verdict.INVALID, "dead attack: no backward pass")
    board = written(
        [*(clean_result(model) for model in ("baseline", "pgd")), *attack_results("baseline", "pgd"), *invalid]
    ).leaderboard
    assert list(board["model"]) == ["baseline", "pgd"]
    assert "dead attack" in row(board, "pgd")["verdict_reasons"]


def test_a_lost_attack_makes_the_worst_case_suspect(written: Write) -> None:
    lost = lost_result("pgd", Status.FAILED, "out of memory", condition="attack", attack="square", norm="Linf", eps=BUDGETS[1])
    found = row(written([clean_result("pgd"), *attack_results("pgd", "pgd"), lost]).leaderboard, "pgd")
    assert found["verdict"] == "SUSPECT"
    assert found["verdict_reasons"] == "square has no result and is missing from the worst case"


def test_a_model_that_failed_stays_on_the_board_without_a_rank(written: Write) -> None:
    lost = lost_result("broken", Status.FAILED, "diverged")
    board = written([clean_result("pgd"), *attack_results("pgd", "pgd"), lost]).leaderboard
    assert list(board["model"]) == ["pgd", "broken"]
    assert board["rank"].isna().tolist() == [False, True]
    assert math.isnan(row(board, "broken")["clean_accuracy"])


def test_without_attacks_models_are_ranked_by_clean_accuracy(written: Write) -> None:
    board = written([clean_result("pgd"), clean_result("baseline")]).leaderboard
    assert list(board["model"]) == ["baseline", "pgd"]
    assert list(board["rank"]) == [1, 2]


def test_mean_corruption_accuracy_needs_every_corruption(written: Write) -> None:
    cells = [clean_result("pgd"), corruption_result("pgd", "fog", 1, 10), corruption_result("pgd", "fog", 2, 20)]
    fields = {"condition": "corruption", "corruption": "fog", "corruption_group": "weather", "severity": 3}
    lost = lost_result("pgd", Status.FAILED, "no such file", **fields)
    assert row(written(cells, "whole").leaderboard, "pgd")["mean_corruption_accuracy"] == pytest.approx(0.625)
    assert math.isnan(row(written([*cells, lost], "torn").leaderboard, "pgd")["mean_corruption_accuracy"])


def test_mean_corruption_accuracy_counts_each_common_corruption_once(written: Write) -> None:
    common = [("fog", 1, 10, "weather"), ("fog", 2, 20, "weather"), ("fog", 3, 30, "weather"), ("noise", 1, 4, "noise")]
    others = [("rotation", 1, 40, "geometry"), ("translation", 1, 38, "geometry"), ("jpeg", 1, 36, "encoding")]
    cells = [clean_result("pgd"), *(corruption_result("pgd", *fields) for fields in (*common, *others))]
    by_hand = ((30 / 40 + 20 / 40 + 10 / 40) / 3 + 36 / 40) / 2
    found = written(cells)
    assert by_hand == pytest.approx(0.7)
    assert row(found.leaderboard, "pgd")["mean_corruption_accuracy"] == pytest.approx(by_hand)
    assert len(found.cells[found.cells["condition"] == "corruption"]) == 7


def test_a_lost_rotation_does_not_take_the_mean_away(written: Write) -> None:
    fields = {"condition": "corruption", "corruption": "rotation", "corruption_group": "geometry", "severity": 1}
    cells = [clean_result("pgd"), corruption_result("pgd", "fog", 1, 10), lost_result("pgd", Status.FAILED, "", **fields)]
    assert row(written(cells).leaderboard, "pgd")["mean_corruption_accuracy"] == pytest.approx(0.75)


def test_without_common_corruptions_there_is_no_mean(written: Write) -> None:
    board = written([clean_result("pgd"), corruption_result("pgd", "rotation", 1, 10, "geometry")]).leaderboard
    assert math.isnan(row(board, "pgd")["mean_corruption_accuracy"])


def test_poisoned_models_have_rows_of_their_own(written: Write) -> None:
    cells = [clean_result("baseline"), trigger_result("baseline", 0.05, range(40)), trigger_result("baseline", 0.1, ())]
    board = written(cells).leaderboard.set_index("poison_rate")
    assert board.loc[0.05, "backdoor_success_rate"] == 1
    assert board.loc[0.1, "backdoor_success_rate"] == 0
    assert board.loc[0.05, "target_class"] == "beet"
    assert len(board) == 3


def test_a_chosen_budget_must_be_one_of_the_sweep(results: Results) -> None:
    assert reference_budget(results.sweep, 8 / 255) == ("Linf", pytest.approx(8 / 255))
    with pytest.raises(HarnessError, match=r"eps: expected one of 2/255, 4/255, 8/255, got 3/255"):
        reference_budget(results.sweep, 3 / 255)


def test_merged_runs_are_ranked_anew(written: Write, tmp_path: Path) -> None:
    written([clean_result("baseline"), *attack_results("baseline", "pgd")], "a", suite={"name": "first"})
    written([clean_result("pgd"), *attack_results("pgd", "pgd")], "b", suite={"name": "second"})
    board = merge([tmp_path / "a", tmp_path / "b"])
    assert list(zip(board["rank"], board["suite"], board["model"], strict=True)) == [
        (1, "second", "pgd"),
        (2, "first", "baseline"),
    ]


def test_merging_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"expected a results folder with a cells.csv"):
        merge([tmp_path])


def test_equal_models_share_a_rank(written: Write) -> None:
    cells = [cell for name in ("a", "b") for cell in renamed(grid()[:1], name)]
    assert list(written(cells).leaderboard["rank"]) == [1, 1]


def renamed(cells: tuple[CellResult, ...], model: str) -> list[CellResult]:
    return [
        dataclasses.replace(cell, cell=cell.cell.model_copy(update={"model": model}), digest=model + cell.digest)
        for cell in cells
    ]
