import dataclasses

import pytest

from harness.records import CellResult, Status
from harness.reports.load import Results
from harness.reports.names import WORST_CASE
from tests.reports.conftest import Write
from tests.reports.planted import BUDGETS, attack_results, clean_result, lost_result


def robust(results: Results, model: str, attack: str) -> list[float]:
    rows = results.sweep[(results.sweep["model"] == model) & (results.sweep["attack"] == attack)]
    return list(rows.sort_values("eps")["robust_accuracy"])


def under(protocol: str, results: list[CellResult]) -> list[CellResult]:
    return [dataclasses.replace(row, cell=row.cell.model_copy(update={"protocol": protocol})) for row in results]


def test_the_worst_case_is_taken_example_by_example(results: Results) -> None:
    assert robust(results, "pgd", WORST_CASE) == pytest.approx([27 / 40, 22 / 40, 14 / 40])
    assert robust(results, "pgd", "pgd") == pytest.approx([29 / 40, 24 / 40, 16 / 40])
    assert robust(results, "pgd", "fgsm") == pytest.approx([30 / 40, 26 / 40, 20 / 40])


def test_the_worst_case_over_one_attack_is_that_attack(written: Write) -> None:
    results = written([clean_result("pgd"), *attack_results("pgd", "fgsm")])
    assert robust(results, "pgd", WORST_CASE) == robust(results, "pgd", "fgsm")


@pytest.mark.parametrize("protocol", ["nested", "bisect"])
def test_an_adversarial_of_a_smaller_budget_counts_at_a_larger_one_where_it_is_not_attacked_again(
    written: Write, protocol: str
) -> None:
    fgsm = attack_results("pgd", "fgsm")
    only_small, only_large = [fgsm[0]], attack_results("pgd", "pgd")[2:]
    found = written(under(protocol, [*only_small, *only_large]))
    assert robust(found, "pgd", WORST_CASE) == pytest.approx([30 / 40, (32 - 18) / 40])


def test_an_independent_sweep_counts_each_budget_for_itself(written: Write) -> None:
    small, large = attack_results("pgd", "fgsm")[0], attack_results("pgd", "pgd")[2]
    results = written(under("independent", [small, large]))
    assert robust(results, "pgd", WORST_CASE) == pytest.approx([30 / 40, 16 / 40])
    assert set(results.sweep["protocol"]) == {"independent"}


def test_norms_do_not_mix(written: Write) -> None:
    results = written([*attack_results("pgd", "fgsm"), *attack_results("pgd", "pgd", norm="L2")])
    worst = results.sweep[results.sweep["attack"] == WORST_CASE]
    assert set(zip(worst["norm"], worst["attacks"], strict=True)) == {("Linf", "fgsm"), ("L2", "pgd")}


def test_success_rates_have_intervals_over_the_initially_correct(results: Results) -> None:
    row = results.sweep[(results.sweep["model"] == "baseline") & (results.sweep["attack"] == "pgd")].iloc[0]
    assert row["attack_success_rate"] == pytest.approx(16 / 36)
    assert row["attack_success_rate_low"] < 16 / 36 < row["attack_success_rate_high"]
    assert row["n_examples"] == 40


def test_a_run_without_finished_attacks_has_an_empty_sweep(written: Write) -> None:
    lost = lost_result("pgd", Status.NOT_RUN, "stopped", condition="attack", attack="pgd", norm="Linf", eps=BUDGETS[0])
    assert written([clean_result("pgd"), lost]).sweep.empty
