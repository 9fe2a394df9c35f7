import dataclasses

from harness.records import Status, Verdict
from harness.reports.load import Results
from harness.reports.page.headline import cost, facts, summary
from tests.reports.conftest import Write
from tests.reports.planted import attack_results, clean_result, grid, lost_result


def test_the_facts_are_those_of_the_run(results: Results) -> None:
    assert [(fact.value, fact.note) for fact in facts(results)] == [
        ("55.0 %", "pgd, Linf eps 4/255"),
        ("90.0 %", "baseline"),
        ("1 of 3", ""),
        ("14 of 16", "1 skipped, 1 failed"),
    ]


def test_the_summary_names_the_best_models_with_their_intervals(results: Results) -> None:
    text = summary(results)
    assert text.startswith(
        "2 models were judged on 40 examples of synthetic, as they are and under fgsm (10 steps) and pgd (10 steps)."
    )
    assert "baseline has the highest clean accuracy: 90.0 % (95 % interval 76.9–96.0)." in text
    assert "pgd has the highest robust accuracy, the worst case over attacks: 55.0 % (95 % interval 39.8–69.3)" in text
    assert "; baseline has the lowest: 15.0 %." in text


def test_doubts_are_named(written: Write) -> None:
    doubted = [dataclasses.replace(cell, verdict=Verdict.SUSPECT) for cell in attack_results("pgd", "pgd")]
    assert "The attack check is not PASS for pgd (SUSPECT)" in summary(written([clean_result("pgd"), *doubted]))


def test_an_invalid_number_is_no_headline(written: Write) -> None:
    invalid = [dataclasses.replace(cell, verdict=Verdict.INVALID) for cell in attack_results("pgd", "pgd")]
    results = written([clean_result("pgd"), *invalid])
    assert "robust accuracy" not in summary(results)


def test_a_run_in_which_nothing_finished_says_so(written: Write) -> None:
    results = written([lost_result("pgd", Status.FAILED, "out of memory")], expectations=())
    assert [(fact.value, fact.label, fact.note) for fact in facts(results)] == [("0 of 1", "cells with numbers", "1 failed")]
    assert summary(results) == "1 model was judged on 0 examples of synthetic."


def test_clean_runs_are_summarised_without_attacks(written: Write) -> None:
    assert summary(written(grid()[:2])).startswith("2 models were judged on 40 examples of synthetic. baseline has")


def test_cost_is_told_in_a_line(results: Results) -> None:
    text = cost(results)
    assert text.startswith("40 examples")
    assert f"{12 * 2.0:,.0f} s of attacks" in text
    assert "commit" not in text, "none is known"


def test_folder_of_images_has_its_own_name(written: Write) -> None:
    suite = {"name": "s", "title": "", "description": "", "dataset": {"name": "image_folder", "root": "/somewhere/market stall"}}
    assert "of market stall" in summary(written(grid()[:2], suite=suite))


def test_cost_names_day_device_and_commit(written: Write) -> None:
    results = written(grid())
    git = {"commit": "0123456789abcdef", "dirty": True}
    results.provenance.update(created="2026-11-30T13:59:18+00:00", device="cpu (a processor, 2 cores)", git=git)
    assert cost(results).endswith("cpu (a processor, 2 cores) · 2026-11-30 · commit 012345678 with changes")
