from dataclasses import replace

from harness.records import Verdict
from harness.reports.summary import leaderboard_table
from tests.reports.conftest import Write
from tests.reports.planted import attack_results, clean_result


def test_verdict_that_is_no_pass_says_why(written: Write) -> None:
    doubted = [
        replace(cell, verdict=Verdict.INVALID, verdict_reasons=("the gradient is zero",)) for cell in attack_results("pgd", "pgd")
    ]
    table = leaderboard_table(written([clean_result("pgd"), *doubted]))
    (row,) = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert row["attack check"] == "INVALID"
    assert "the gradient is zero" in row["why"]


def test_verdict_that_is_a_pass_needs_no_reason(written: Write) -> None:
    table = leaderboard_table(written([clean_result("pgd"), *attack_results("pgd", "pgd")]))
    assert [row[-2:] for row in table.rows] == [["PASS", ""]]
