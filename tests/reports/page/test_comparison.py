"""The page's section that compares the run with an earlier one."""

from pathlib import Path

from harness.cli.main import app
from harness.reports.compare import compare
from harness.reports.load import load_results
from harness.reports.page.html import write_report
from tests.reports.conftest import Write
from tests.reports.flips import model, suite
from tests.reports.page.test_html import Page


def test_a_page_against_an_earlier_run_has_a_section_with_its_sentence(written: Write, tmp_path: Path) -> None:
    one = written(model("a<b", 2, 24), "one", suite=suite()).folder
    two = written(model("a<b", 2, 4), "two", suite=suite()).folder
    page = write_report(load_results(two), against=load_results(one)).read_text()
    parsed = Page(page)
    assert parsed.open == []
    assert {"comparison", "leaderboard"} <= set(parsed.ids)
    assert compare(one, two).sentence.split(" (most")[0] in page
    assert "a&lt;b" in page
    assert 'badge invalid">loss' in page
    assert 'id="comparison"' not in write_report(load_results(two)).read_text()


def test_report_takes_the_earlier_run_as_an_option(written: Write, tmp_path: Path) -> None:
    one = written(model("a", 2, 24), "one", suite=suite()).folder
    app(["report", str(one), "--against", str(one)], standalone_mode=False)
    assert "No significant change from A to B in 4 conditions." in (one / "report.html").read_text()
