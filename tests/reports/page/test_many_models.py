"""A run of more models or rows than a page can show: the first are shown, and the page says what it leaves out."""

import re
from pathlib import Path

import pytest

from harness.reports.leading import leading
from harness.reports.load import Results, load_results
from harness.reports.names import model_labels
from harness.reports.page.html import render, write_report
from tests.reports.conftest import Write
from tests.reports.flips import model, suite

ROBUST = {"weak": 5, "strong": 20, "middling": 10}


@pytest.fixture
def results(written: Write, monkeypatch: pytest.MonkeyPatch) -> Results:
    """Three models, of which figures and page show two."""
    monkeypatch.setattr("harness.reports.leading.MOST_MODELS", 2)
    cells = [cell for name, robust in ROBUST.items() for cell in model(name, 2, robust, ("fgsm", "pgd"))]
    return written(cells, suite=suite())


def test_the_leading_models_are_shown_in_the_order_of_the_grid(results: Results) -> None:
    shown = leading(results)
    for table in (shown.cells, shown.sweep, shown.before_after):
        assert list(dict.fromkeys(model_labels(table))) == ["strong", "middling"]
    assert len(shown.leaderboard) == len(ROBUST)
    assert shown.whole is results
    assert leading(results) is shown


def test_results_of_few_models_are_shown_as_they_are(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.reports.leading.MOST_MODELS", len(ROBUST))
    fresh = load_results(results.folder)
    assert leading(fresh) is fresh
    assert "first of the leaderboard" not in render(fresh)


def test_a_page_of_many_models_says_which_it_shows_and_where_the_others_are(results: Results) -> None:
    page = render(results)
    assert "Of 3 models this page shows the 2 first of the leaderboard" in page
    sections = re.findall(r'<details class="model".*?<h3>(.*?)</h3>', page)
    assert sections == ["strong", "middling"]
    assert len(re.findall(r'<tr id="cell-', page)) == 2 * len(results.cells) // len(ROBUST)
    board = page.partition('id="table-leaderboard">')[2].partition("</table>")[0]
    assert all(name in board for name in ROBUST)


def test_figures_are_drawn_of_the_leading_models(results: Results) -> None:
    write_report(results)
    names = {path.stem for path in (results.folder / "curves").glob("*.svg")}
    assert {"roc__strong", "confusion__middling", "robust_accuracy__worst_case"} <= names
    assert not [name for name in names if "weak" in name]
    assert "weak" not in (results.folder / "curves" / "robust_accuracy__worst_case.svg").read_text()


def test_files_of_a_shown_model_are_named_as_among_all_models(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.reports.leading.MOST_MODELS", 1)
    results = written([*model("Net", 2, 20), *model("net", 2, 5)], suite=suite())  # one name on some file systems
    assert "confusion" in render(results)


def test_long_tables_show_their_first_rows_and_say_how_many_there_are(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.reports.page.tables.MOST_ROWS", 4)
    monkeypatch.setattr("harness.reports.page.html.MOST_ROWS", 4)
    page, shown = render(results), leading(results)
    assert f"The first 4 of {len(shown.cells)} rows" in page
    assert len(re.findall(r'<tr id="cell-', page)) == 4
    of_each = len(shown.before_after) // 2
    assert page.count(f"The first 2 of {of_each} rows") == 2, "two attacks share the rows"
    assert "more values are in provenance.json" in page


def test_a_page_within_the_bounds_says_nothing_of_them(published: Path) -> None:
    page = (published / "report.html").read_text()
    assert "The first " not in page
    assert "more values are in" not in page
