import numpy as np
import pandas as pd

from harness.reports.figures.charts import robustness_charts
from harness.reports.load import Results
from harness.reports.page import tables as page_tables
from harness.reports.page.tables import PageTable
from tests.reports.conftest import Write
from tests.reports.planted import clean_result, corruption_result, trigger_result


def texts(table: PageTable, column: str) -> list[str]:
    place = table.columns.index(column)
    return [row[place].text for row in table.rows]


def test_the_leaderboard_shows_rank_rates_and_intervals(results: Results) -> None:
    table = page_tables.leaderboard_table(results)
    assert texts(table, "Model") == ["1. pgd", "2. baseline"]
    assert texts(table, "Robust accuracy, Linf eps 4/255") == ["55.0 %", "15.0 %"]
    assert table.rows[0][1].detail == "39.8–69.3"
    assert texts(table, "Attack check") == ["PASS", "PASS"]
    assert "Backdoor success" not in table.columns


def test_columns_of_corruptions_and_backdoors_appear_with_their_numbers(written: Write) -> None:
    cells = [clean_result("pgd"), corruption_result("pgd", "fog", 1, 10), trigger_result("pgd", 0.05, range(40))]
    table = page_tables.leaderboard_table(written(cells))
    assert texts(table, "Mean corruption accuracy") == ["75.0 %", "–"]
    assert texts(table, "Backdoor success") == ["–", "100.0 %"]


def test_before_and_after_stand_side_by_side_strongest_attack_first(results: Results) -> None:
    pgd, fgsm = page_tables.before_after_tables(results)
    assert (pgd.caption, fgsm.caption) == ("pgd: before and after", "fgsm: before and after")
    assert texts(pgd, "Accuracy")[:3] == ["90.0 → 50.0", "90.0 → 15.0", "90.0 → 0.0"]
    assert pgd.rows[2][2].detail == "−90.0"
    assert texts(pgd, "eps")[:3] == ["2/255", "4/255", "8/255"]


def test_cells_without_numbers_show_their_reason(results: Results) -> None:
    table = page_tables.cells_table(results)
    failed, skipped = table.rows[-2:]
    assert (failed[2].badge, failed[2].detail) == ("failed", "RuntimeError: out of memory")
    assert (skipped[2].badge, skipped[2].detail) == ("skipped", "fgsm has no L1 form")
    assert failed[table.columns.index("Accuracy")].text == "–"


def test_the_numbers_behind_a_chart_can_be_read(results: Results) -> None:
    table = page_tables.numbers_table(robustness_charts(results)[0])
    assert table.columns == ("", "0", "2", "4", "8")
    assert [entry.text for entry in table.rows[1]][3] == "55.0 % (39.8–69.3)"


def test_transfer_is_a_matrix_of_source_and_target(written: Write) -> None:
    results = written([clean_result("pgd")])
    pairs = [("a", "a", 0.1), ("a", "b", 0.6), ("b", "a", 0.7), ("b", "b", 0.2)]
    rows = [
        {"source": s, "target": t, "attack": "pgd", "norm": "Linf", "eps": 8 / 255, "accuracy": value} for s, t, value in pairs
    ]
    pd.DataFrame(rows).to_csv(results.folder / "transfer.csv", index=False)
    (table,) = page_tables.transfer_tables(results)
    assert table.columns == ("Made on", "judged by a", "judged by b")
    assert [[entry.text for entry in row] for row in table.rows] == [["a", "10.0 %", "60.0 %"], ["b", "70.0 %", "20.0 %"]]
    assert table.caption == "pgd, Linf eps 8/255"


def test_any_table_can_be_shown_as_it_is() -> None:
    table = page_tables.plain_table(pd.DataFrame({"runtime": ["cpp"], "max_difference": [1.23456e-5], "flips": [np.nan]}), "t")
    assert table.columns == ("runtime", "max difference", "flips")
    assert [entry.text for entry in table.rows[0]] == ["cpp", "1.235e-05", "–"]
