"""What charts and tables do in a real browser, by mouse and keyboard."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.reports.page.browsing import column, conditions
from tests.reports.page.conftest import Open

pytestmark = pytest.mark.browser
CHART = "#chart-robust_accuracy__worst_case"
MISSING = "\N{EN DASH}"
LARGE = 20 * (1 + 10 * 10)
"""Rows of cells.csv at 20 models x 10 attacks x 10 budgets."""
LOAD_MS, SORT_MS = 1000, 300
"""Processor time that the page may take then; a busy machine takes longer by the clock."""


@pytest.fixture(params=[1280, 500])
def page(open_page: Open, request: pytest.FixtureRequest) -> Any:
    return open_page("planted", width=request.param)


def tip(page: Any) -> str:
    return page.inner_text("#tip")


def shown_lines(page: Any) -> list[str]:
    return page.eval_on_selector_all(f"{CHART} > svg > g:not(.off)", "lines => lines.map((line) => line.dataset.line)")


def chosen(page: Any) -> list[str]:
    return page.eval_on_selector_all(f"{CHART} .legend button", "buttons => buttons.map((it) => it.ariaPressed)")


def filter_cells(page: Any, asked: str) -> list[str]:
    field = page.locator("[data-table=table-cells] input[type=search]")
    field.click()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.type(asked)
    return conditions(page)


def rates(texts: list[str]) -> list[float]:
    return [-1.0 if text == MISSING else float(text.removesuffix(" %")) for text in texts]


def test_pointing_at_a_mark_says_its_numbers(page: Any) -> None:
    mark = page.locator(f"{CHART} .mark").nth(2)
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    assert "eps 4/255 = 0.01569" in tip(page)
    assert "n = 40" in tip(page)
    assert page.locator("#tip").bounding_box()["x"] >= 0
    page.mouse.move(1, 1)
    assert page.is_hidden("#tip")


def test_arrow_keys_walk_from_mark_to_mark(page: Any) -> None:
    page.focus(f"{CHART} > svg")
    page.keyboard.press("ArrowRight")
    assert "not attacked" in tip(page)
    page.keyboard.press("ArrowRight")
    assert "eps 2/255" in tip(page)
    page.keyboard.press("ArrowLeft")
    assert "not attacked" in tip(page)
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")


def test_a_name_hides_its_line_and_twice_pressed_isolates_it(page: Any) -> None:
    first, lines = page.locator(f"{CHART} .legend button").first, shown_lines(page)
    assert len(lines) == 2
    first.click()
    assert shown_lines(page) == lines[1:]
    first.click()
    assert shown_lines(page) == lines
    first.dblclick()
    assert shown_lines(page) == lines[:1]
    assert chosen(page) == ["true", "false"]
    first.dblclick()
    assert shown_lines(page) == lines
    first.focus()
    page.keyboard.press("Enter")
    assert shown_lines(page) == lines[1:], "a key does what a click does"


def test_filter_takes_numbers_for_numbers(page: Any) -> None:
    everything = conditions(page)
    assert [text.split()[0] for text in filter_cells(page, "square")] == ["square"]
    assert set(filter_cells(page, "pgd 8/255")) == {"pgd 8/255", "fgsm 8/255"}, "the second one is of the model pgd"
    assert filter_cells(page, "/255") == []
    assert filter_cells(page, "18/255") == []
    assert filter_cells(page, "") == everything


def test_filter_does_not_find_a_number_inside_another(open_page: Open) -> None:
    page = open_page("quickstart")
    assert {text.split()[-1] for text in conditions(page)} >= {"8/255", "48/255"}
    assert set(filter_cells(page, "pgd 8/255")) <= {f"{attack} 8/255" for attack in ("pgd", "fgsm", "audited", "random_noise")}
    assert "pgd 48/255" in filter_cells(page, "pgd 48/255")
    words = [("pgd 48/255", "8/255"), ("pgd 8/255", "8/255"), ("efficientnet", "net")]
    assert page.evaluate("words => words.map(([text, word]) => found(text, word))", words) == [False, True, True]


def test_rates_sort_as_numbers_and_missing_ones_come_last(page: Any) -> None:
    button = page.locator("#table-cells thead button", has_text=re.compile("^Accuracy$"))
    for state, turn in (("descending", -1), ("ascending", 1)):
        button.click()
        texts = column(page, "table-cells", "Accuracy")
        assert rates(texts) == sorted(rates(texts), reverse=turn < 0)
        assert page.locator("#table-cells th[aria-sort]").get_attribute("aria-sort") == state
        assert len({len(text.split(".")[0]) for text in texts}) > 1, "texts of one length sort alike as text"


def test_a_table_is_sorted_by_keys(page: Any) -> None:
    page.focus("#table-leaderboard thead button")
    page.keyboard.press("Enter")
    falling = column(page, "table-leaderboard", "Model")
    page.keyboard.press("Enter")
    assert column(page, "table-leaderboard", "Model") == falling[::-1]


def test_columns_can_be_chosen(page: Any) -> None:
    menu = page.locator("[data-table=table-leaderboard] .columns")
    menu.locator("summary").click()
    head = page.locator("#table-leaderboard thead th", has_text="Clean accuracy")
    assert head.is_visible()
    menu.get_by_label("Clean accuracy").uncheck()
    assert head.is_hidden()
    menu.get_by_label("Clean accuracy").check()
    assert head.is_visible()


def test_a_link_to_a_row_leads_to_it_and_marks_it(open_page: Open) -> None:
    page = open_page("planted")
    paper, row = page.evaluate("getComputedStyle(document.body).backgroundColor"), page.locator("#table-cells tbody tr").last
    anchor = row.get_attribute("id")
    assert re.fullmatch(r"cell-[0-9a-f]{12}", anchor)
    linked = open_page("planted", part=f"#{anchor}").locator(f"#{anchor}")
    assert 0 <= linked.bounding_box()["y"] < 900
    assert linked.locator("td").first.evaluate("it => getComputedStyle(it).backgroundColor") not in (paper, "rgba(0, 0, 0, 0)")


def test_a_link_into_a_fold_opens_it(page: Any) -> None:
    fold = page.locator("#provenance details")
    assert fold.get_attribute("open") is None
    fold.locator("table").evaluate("table => { table.id = 'inside'; location.hash = '#inside'; }")
    page.wait_for_function("document.querySelector('#provenance details').open")
    assert page.is_visible("#inside")


def test_a_link_to_a_row_that_is_filtered_out_shows_it(open_page: Open) -> None:
    page = open_page("planted")
    anchor = page.locator("#table-cells tbody tr").last.get_attribute("id")
    filter_cells(page, "no such row")
    assert page.is_hidden(f"#{anchor}")
    page.evaluate("anchor => { location.hash = anchor; }", anchor)
    page.wait_for_function("anchor => !document.getElementById(anchor).hidden", arg=anchor)
    assert 0 <= page.locator(f"#{anchor}").bounding_box()["y"] < 900


def test_examples_are_chosen_by_class_model_and_budget(page: Any) -> None:
    def shown(**asked: str) -> list[str]:
        for name, value in asked.items():
            page.get_by_label(name.replace("_", " "), exact=True).select_option(label=value)
        found = page.eval_on_selector_all("#examples li", "all => all.filter((it) => !it.hidden).map((it) => it.innerText)")
        assert page.inner_text("#examples output") == f"{len(found)} of 40 examples"
        return found

    page.locator("#examples .samples").scroll_into_view_if_needed()
    assert len(shown()) == 40
    assert len(shown(Model="pgd")) == 40
    assert len(shown(Misclassified_at="when clean")) == 8
    assert len(shown(Misclassified_at="Linf eps 2/255 at most")) == 8 + 5, "examples 8 and 9 by fgsm, 10 to 12 by pgd"
    assert len(shown(Misclassified_at="at none of these")) == 40 - 26
    (first, *others) = shown(Class="beet")
    assert len(others) == 4, "27, 30, 33, 36 and 39 of 26 to 39"
    assert first.split("\n") == ["beet", "pgd: beet, not misclassified"]
    assert len(shown(Model="all", Misclassified_at="any or none")) == 14


def test_examples_are_reached_by_keys_and_said_in_words(page: Any) -> None:
    page.focus("#examples .samples")
    assert page.evaluate("document.activeElement.ariaLabel") == "Examples"
    assert page.get_by_role("img", name="image-0.png, of class beet").is_visible()
    box = page.locator("#examples .thumb").first.bounding_box()
    assert (box["width"], box["height"]) == (64, 64)


def test_gallery_shows_its_pictures_and_says_what_they_are(page: Any) -> None:
    picture = page.get_by_role("img", name="Attacked examples of pgd, pgd 8/255: clean, attacked, difference")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 4
    assert "beet \N{RIGHTWARDS ARROW} carrot from 4/255" in page.inner_text("#gallery")


def test_a_large_page_loads_and_sorts_at_once(open_page: Open) -> None:
    page = open_page("large")
    assert busy_ms(page, page.reload) < LOAD_MS
    values = "rows => rows.map((row) => row.cells[4].firstChild.textContent)"
    everything = rates(page.eval_on_selector_all("#table-cells tbody tr", values))
    assert len(everything) == LARGE
    button = page.locator("#table-cells thead button", has_text=re.compile("^Accuracy$"))
    button.scroll_into_view_if_needed()
    assert busy_ms(page, button.click) < SORT_MS
    first = rates(column(page, "table-cells", "Accuracy"))
    assert first == sorted(everything, reverse=True)[: len(first)]


def test_a_long_table_shows_its_first_rows_and_all_on_request(open_page: Open) -> None:
    page = open_page("large")
    assert len(conditions(page)) == 100
    last = page.locator("#table-cells tbody tr").last.get_attribute("id").removeprefix("cell-")
    assert len(filter_cells(page, last)) == 1, "rows that are not shown are found"
    assert page.is_hidden("#cells .more")
    assert len(filter_cells(page, "attack")) == 100
    assert page.inner_text("#cells .more") == "Show all 2,000 rows"
    filter_cells(page, "")
    page.click("#cells .more")
    assert len(conditions(page)) == LARGE
    assert page.is_hidden("#cells .more")


def test_a_link_to_a_row_that_a_long_table_leaves_out_shows_it(open_page: Open) -> None:
    anchor = open_page("large").locator("#table-cells tbody tr").last.get_attribute("id")
    page = open_page("large", part=f"#{anchor}")
    assert 0 <= page.locator(f"#{anchor}").bounding_box()["y"] < 900


def busy_ms(page: Any, action: Callable[[], object]) -> float:
    """Returns for how long an action and the drawing after it keep the page's thread busy, in milliseconds of its processor."""
    clock = page.context.new_cdp_session(page)
    clock.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = _busy_seconds(clock)
    action()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return 1000 * (_busy_seconds(clock) - before)


def _busy_seconds(clock: Any) -> float:
    return next(it["value"] for it in clock.send("Performance.getMetrics")["metrics"] if it["name"] == "TaskDuration")
