import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from harness.records import Status
from harness.reports.load import Results, load_results
from harness.reports.page.html import render, write_report
from tests.reports.conftest import Write
from tests.reports.planted import clean_result, corruption_result, grid, lost_result

VOID = {"meta", "input", "path", "br", "link"}


class Page(HTMLParser):
    """Checks that every element is closed, and gathers ids, links and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        self.links += [given[name] for name in ("href", "src") if given.get(name)]
        self.headings += [tag] if re.fullmatch(r"h\d", tag) else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(published: Path) -> str:
    return (published / "report.html").read_text()


def everything(written: Write) -> Results:
    """A run with every section that needs no poison."""
    results = written([*grid(), corruption_result("pgd", "fog", 1, 10)])
    pd.DataFrame([{"model": "pgd", "runtime": "cpp", "accuracy": 0.8}]).to_csv(results.folder / "crossruntime.csv", index=False)
    transfer = {"source": "pgd", "target": "baseline", "attack": "pgd", "norm": "Linf", "eps": 8 / 255, "accuracy": 0.5}
    pd.DataFrame([transfer]).to_csv(results.folder / "transfer.csv", index=False)
    return results


def test_the_page_is_well_formed_and_its_links_lead_somewhere(page: str, published: Path) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(link[1:] in parsed.ids if link.startswith("#") else (published / link).is_file() for link in parsed.links)


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    assert "http" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_headings_step_down_one_level_at_a_time(page: str) -> None:
    levels = [int(heading[1]) for heading in Page(page).headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_page_is_small(page: str) -> None:
    assert len(page.encode()) < 200_000


def test_what_the_suite_says_is_text_not_markup(page: str) -> None:
    assert "<h1>A &lt;planted&gt; run</h1>" in page
    assert "<planted>" not in page


def test_every_section_appears_when_the_run_has_it(written: Write, page: str) -> None:
    optional = {"corruptions", "transfer", "runtimes"}
    whole = set(Page(render(everything(written))).ids)
    assert optional <= whole
    assert optional.isdisjoint(Page(page).ids)
    assert {"expectations", "leaderboard", "robustness", "before-after", "models", "cells", "provenance", "reading"} <= whole


def test_expectations_say_whether_they_hold(page: str) -> None:
    states = re.findall(r'<li class="(\w+)"><b>([^<]+)</b>', page)
    assert states == [("holds", "Holds"), ("fails", "Does not hold"), ("open", "No number")]


def test_a_model_says_which_epoch_it_is_and_what_its_training_warns_of(page: str) -> None:
    assert "<p>Epoch 4 of 6 is kept, by its validation robust accuracy.</p>" in page
    assert "<p>Robust overfitting: 7 points &lt;less&gt;.</p>" in page
    assert "<p>Collapsed: one class.</p>" in page


def test_tables_say_what_their_headers_head(page: str) -> None:
    assert not re.search(r"<th(?![^>]*scope=)[ >]", page)
    assert page.count("<caption>") == page.count("<table")


def test_a_run_in_which_nothing_finished_has_a_page(written: Write) -> None:
    results = written([lost_result("pgd", Status.FAILED, "out of <memory>")], histories={}, expectations=())
    text = render(results)
    assert "out of &lt;memory&gt;" in text
    assert Page(text).open == []


def test_matrices_of_many_classes_are_left_to_the_files(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    results = written([clean_result("pgd")])
    assert 'class="confusion"' in render(results)
    monkeypatch.setattr("harness.reports.page.html.MOST_CLASSES", 2)
    assert 'class="confusion"' not in render(results)
    assert "too many classes for a page" in render(results)


def test_a_copy_without_examples_and_roc_curves_is_drawn(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, copy := tmp_path / "copy")
    shutil.rmtree(copy / "roc")
    (copy / "samples.parquet").unlink()
    page = write_report(load_results(copy)).read_text()
    assert Page(page).open == []
    assert 'id="chart-roc' not in page
