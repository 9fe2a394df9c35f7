"""What an audited ensemble leaves in the tables and on the page."""

from dataclasses import replace

import pytest

from harness.metrics import audit_bound
from harness.records import CellResult
from harness.records.evidence import AuditEvidence, Evidence, StageEvidence
from harness.reports.names import WORST_CASE
from harness.reports.page.html import write_report
from tests.reports.conftest import Write
from tests.reports.planted import attack_results, clean_result

STAGES = {"pma": StageEvidence(36, 5, 700, 650, 1.5), "square": StageEvidence(10, 0, 50_030, 0, 4.0)}


def audited(sampled: int, broken: int = 0) -> list[CellResult]:
    """Rows of an attack, as if it was an ensemble whose middle budget is audited."""
    rows = attack_results("pgd", "fgsm")
    survivors = int(rows[1].condition.is_adversarial.size - rows[1].condition.is_adversarial.sum()) - 4
    evidence = Evidence(stages=STAGES, audit=AuditEvidence(survivors, sampled, broken))
    rows[1] = replace(rows[1], condition=replace(rows[1].condition, evidence=evidence))
    return rows


@pytest.fixture
def cells() -> list[CellResult]:
    return [clean_result("pgd"), *audited(10, 2), *attack_results("pgd", "pgd")]


def test_cells_have_the_floor_of_the_audit(written: Write, cells: list[CellResult]) -> None:
    table = written(cells).cells.set_index(["attack", "eps"])
    row = table[table["audit_n"].notna()].iloc[0]
    survivors = cells[2].condition.evidence.audit.survivors
    assert len(table["audit_n"].dropna()) == 1
    assert (row["audit_n"], row["audit_broken"]) == (10, 2)
    assert row["robust_accuracy_floor"] == pytest.approx(row["robust_accuracy"] - audit_bound(10, survivors) / 40)


def test_worst_case_and_leaderboard_have_as_much_less(written: Write, cells: list[CellResult]) -> None:
    results = written(cells)
    own = results.cells[results.cells["audit_n"].notna()].iloc[0]
    worst = results.sweep[(results.sweep["attack"] == WORST_CASE) & results.sweep["audit_n"].notna()]
    assert list(worst["eps"]) == [own["eps"]]
    lost = own["robust_accuracy"] - own["robust_accuracy_floor"]
    assert worst.iloc[0]["robust_accuracy_floor"] == pytest.approx(max(0.0, worst.iloc[0]["robust_accuracy"] - lost))
    board = results.leaderboard.iloc[0]
    assert board["robust_accuracy_floor"] == pytest.approx(worst.iloc[0]["robust_accuracy_floor"])
    assert (board["audit_n"], board["audit_broken"]) == (10, 2)


def test_stages_are_a_table(written: Write, cells: list[CellResult]) -> None:
    table = written(cells).stages
    assert list(table["stage"]) == ["pma", "square"]
    assert table["attack"].unique() == ["fgsm"]
    assert table[["attacked", "adversarial", "forwards", "backwards"]].to_numpy().tolist() == [
        [36, 5, 700, 650],
        [10, 0, 50_030, 0],
    ]


def test_run_without_ensembles_has_no_table_of_stages(written: Write) -> None:
    results = written([clean_result("pgd"), *attack_results("pgd", "pgd")])
    assert results.stages.empty
    assert not (results.folder / "stages.csv").exists()


def test_page_shows_stages_and_floor(written: Write, cells: list[CellResult]) -> None:
    results = written(cells)
    write_report(results)
    page = (results.folder / "report.html").read_text()
    assert 'id="stages"' in page
    assert "Floor by the audit" in page
    assert "50,030" in page
