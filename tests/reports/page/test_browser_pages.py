"""What every page keeps to in a real browser: screens, phones, paper, light and dark, and names that hold markup."""

import re
from typing import Any

import pytest

from tests.reports.page.browsing import CJK, CUT, DARKEST, LONG, MARKUP, UNFOLD
from tests.reports.page.conftest import Open

pytestmark = pytest.mark.browser
PAGES = ("planted", "hostile", "quickstart", "poisoning", "large")
PAPER = {"width": 1054, "height": 725}
"""CSS pixels of an A4 page across, less its margins of 9 mm."""
MOST_SHEETS = 10
LEAST_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3 (AA)."""


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_window(open_page: Open, name: str) -> None:
    page = open_page(name)
    for folded in (True, False) if name != "large" else (True,):
        if not folded:
            page.evaluate(UNFOLD)
        for width in (1280, 500, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"folded: {folded}"


@pytest.mark.parametrize("name", ["quickstart", "poisoning"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_below_it(open_page: Open, name: str, scheme: str) -> None:
    page = open_page(name, color_scheme=scheme)
    page.evaluate(UNFOLD)
    contrast, text = page.evaluate(DARKEST)
    assert contrast > LEAST_CONTRAST, text


def test_schemes_differ(open_page: Open) -> None:
    page = open_page("planted")
    papers = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers[0] != papers[1]


@pytest.mark.parametrize("name", ["planted", "quickstart", "poisoning"])
def test_a_phone_shows_robust_accuracy_and_attack_check_first(open_page: Open, name: str) -> None:
    page = open_page(name, width=390, height=844, has_touch=True, is_mobile=True, device_scale_factor=2)
    heads = page.locator("#table-leaderboard thead th")
    assert [re.sub(",.*", "", text) for text in heads.all_text_contents()[:3]] == ["Model", "Robust accuracy", "Attack check"]
    row = page.locator("#table-leaderboard tbody tr").first
    row.scroll_into_view_if_needed()
    model, robust, check = (row.locator("th, td").nth(place).bounding_box() for place in range(3))
    assert model["x"] + model["width"] <= robust["x"] + 1, "the column of models covers none of it"
    assert robust["x"] + robust["width"] <= 390
    badge = row.locator("td").nth(1).locator(".badge").bounding_box()
    assert check["x"] < badge["x"] + badge["width"] <= 390


@pytest.mark.parametrize("name", ["planted", "quickstart", "poisoning"])
def test_print_is_landscape_and_cuts_nothing(open_page: Open, name: str) -> None:
    page = open_page(name, width=PAPER["width"], height=PAPER["height"])
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open]):not(.columns)").count() == 0
    assert page.locator(".paper:visible").count() == 0
    page.emulate_media(media="print")
    assert page.locator(".paper:visible").count() == (name == "planted")
    assert page.evaluate(CUT) == []
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open]):not(.columns)").count() > 0, "what was folded is folded again"
    sheets = _sheets(page.pdf(prefer_css_page_size=True, print_background=True))
    assert all(width > height for width, height in sheets)
    assert len(sheets) >= 1
    if name != "poisoning":
        assert len(sheets) <= MOST_SHEETS


def _sheets(pdf: bytes) -> list[tuple[float, float]]:
    """Returns width and height of each page of a PDF, in points."""
    boxes = re.findall(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)\s+([\d.]+)\s*\]", pdf)
    assert len(boxes) == len(re.findall(rb"/Type\s*/Page\b", pdf))
    return [(float(width), float(height)) for width, height in boxes]


def test_markup_in_names_stays_text(open_page: Open) -> None:
    page = open_page("hostile")
    assert page.inner_text("h1") == f"Title {MARKUP}"
    assert MARKUP in page.inner_text(".description")
    assert page.locator("img, style ~ style").count() == 0
    classes = page.locator("#models table.sortable tbody th").all_text_contents()
    assert set(classes) == {MARKUP, LONG, CJK}
    page.focus(".chart > svg")
    page.keyboard.press("ArrowRight")
    assert MARKUP in page.inner_text("#tip")
    assert MARKUP in page.text_content("#chart-robust_accuracy__worst_case .legend")


@pytest.mark.parametrize(("name", "most"), [("planted", 1), ("quickstart", 5), ("large", 10)])
def test_pages_are_small(report: Any, name: str, most: int) -> None:
    assert report(name).stat().st_size < most * 2**20


def test_sections_stand_in_the_order_of_a_reader(open_page: Open) -> None:
    order = ["leaderboard", "robustness", "classes", "gallery", "examples", "runtimes", "poisons", "models", "cells"]
    for name in ("planted", "quickstart", "poisoning"):
        page = open_page(name)
        sections = page.eval_on_selector_all("main > section", "sections => sections.map((section) => section.id)")
        found = [it for it in sections if it in order]
        assert found == [it for it in order if it in found]
        links = page.eval_on_selector_all("nav a", "links => links.map((link) => link.hash.slice(1))")
        assert [it for it in links if it in sections] == [it for it in sections if it in links]
        assert page.locator("#decision").bounding_box()["y"] < page.locator("main").bounding_box()["y"]


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_the_page_leads_to_a_part_of_it(open_page: Open, name: str) -> None:
    page = open_page(name)
    nowhere = "links => links.map((it) => it.hash.slice(1)).filter((id) => !document.getElementById(decodeURIComponent(id)))"
    assert page.eval_on_selector_all("a[href^='#']", nowhere) == []


def test_a_page_is_whole_without_scripts(open_page: Open) -> None:
    page = open_page("planted", java_script_enabled=False)
    assert page.locator("#examples li").last.is_visible()
    assert page.locator("#examples .choices").is_hidden()
    assert page.locator("#table-leaderboard tbody tr").first.is_visible()
    page.locator("#provenance summary").click()
    assert page.locator("#provenance table").is_visible()
