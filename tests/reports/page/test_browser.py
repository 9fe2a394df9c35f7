"""What the page does in a real browser: Debian's Chromium, without a network."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from harness.reports.load import load_results
from harness.reports.page.html import write_report
from harness.reports.tables.write import write_tables
from tests.bench.report import record_of

PROBE = """
<script>
const said = {};
const chart = document.querySelector("#chart-robust_accuracy__worst_case"), svg = chart.querySelector("svg");
const box = chart.querySelectorAll(".mark")[2].getBoundingClientRect(), tipOf = () => document.getElementById("tip").textContent;
svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.x + 5, clientY: box.y + 5, bubbles: true}));
said.hovered = tipOf();
const press = (key) => svg.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
press("Escape");
said.closed = document.getElementById("tip").hidden;
press("ArrowRight");
said.walked = [tipOf()];
press("ArrowRight");
said.walked.push(tipOf());

const buttons = [...chart.querySelectorAll(".legend button")], off = () => svg.querySelectorAll("g.off").length;
buttons[0].click();
said.hidden = off();
buttons[0].click();
said.back = off();
buttons[0].dispatchEvent(new MouseEvent("dblclick", {bubbles: true}));
said.isolated = [off(), buttons.map((button) => button.getAttribute("aria-pressed"))];
buttons[0].dispatchEvent(new MouseEvent("dblclick", {bubbles: true}));
said.whole = off();

const cells = document.getElementById("table-cells"), input = document.querySelector("[data-table=table-cells] input");
const filtered = (asked) => {
  input.value = asked;
  input.dispatchEvent(new Event("input"));
  return [...cells.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].querySelector("small").textContent);
};
said.filtered = {square: filtered("square"), budget: filtered("pgd 8/255"), part: filtered("/255"), none: filtered("18/255")};
said.numbers = [found("pgd 48/255", "8/255"), found("pgd 8/255", "8/255"), found("efficientnet", "net")];
filtered("");
const head = (table, name) => [...table.tHead.rows[0].cells].find((cell) => cell.textContent === name);
const column = (table, name) => {
  const place = head(table, name).cellIndex;
  return [...table.tBodies[0].rows].map((row) => row.cells[place].firstChild.textContent.trim());
};
const started = performance.now();
head(cells, "Accuracy").querySelector("button").click();
said.sort_ms = performance.now() - started;
said.falling = [column(cells, "Accuracy"), head(cells, "Accuracy").getAttribute("aria-sort")];
head(cells, "Accuracy").querySelector("button").click();
said.rising = [column(cells, "Accuracy"), head(cells, "Accuracy").getAttribute("aria-sort")];

const columns = document.querySelector("[data-table=table-leaderboard] .columns");
columns.open = true;
said.page = {wide: document.documentElement.scrollWidth <= innerWidth, id: document.querySelector("#table-cells tbody tr").id};
setTimeout(() => {
  const choice = [...columns.querySelectorAll("label")].find((label) => label.textContent === "Clean accuracy");
  choice.querySelector("input").click();
  said.chosen = head(document.getElementById("table-leaderboard"), "Clean accuracy").hidden;
  const fold = document.querySelector("#provenance details");
  fold.querySelector("table").id = "inside";
  location.hash = "#inside";
  setTimeout(() => {
    said.opened = fold.open;
    document.body.dataset.probe = JSON.stringify(said);
  }, 100);
}, 100);
</script>
"""
CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")]


def chromium(page: Path, *arguments: str) -> str:
    """Returns what Chromium prints of a page, and fails if the page says anything in the console or asks for anything."""
    always = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    done = subprocess.run(
        [str(CHROMIUM), *always, profile, *arguments, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout


def probed(page: Path, folder: Path, width: int) -> dict[str, Any]:
    """Returns what the probe finds in a copy of a page."""
    copy = folder / "probe.html"
    copy.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    shown = chromium(copy, f"--window-size={width},900", "--dump-dom")
    (probe,) = re.findall(r'data-probe="([^"]+)"', shown)
    found: dict[str, Any] = json.loads(unescape(probe))
    return found


@pytest.fixture(scope="module", params=[1280, 500])
def said(published: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    return probed(published / "report.html", tmp_path_factory.mktemp("probe"), request.param)


def test_marks_say_their_numbers_to_pointer_and_keys(said: dict[str, Any]) -> None:
    assert "eps 4/255 = 0.01569" in said["hovered"]
    assert "n = 40" in said["hovered"]
    assert said["closed"] is True
    assert ["not attacked" in said["walked"][0], "eps 2/255" in said["walked"][1]] == [True, True]


def test_a_name_hides_its_line_and_twice_pressed_isolates_it(said: dict[str, Any]) -> None:
    assert (said["hidden"], said["back"]) == (1, 0)
    assert said["isolated"] == [1, ["true", "false"]]
    assert said["whole"] == 0


def test_filter_takes_numbers_for_numbers(said: dict[str, Any]) -> None:
    found = said["filtered"]
    assert [text.split()[0] for text in found["square"]] == ["square"]
    assert set(found["budget"]) == {"pgd 8/255", "fgsm 8/255"}, "the second one is of the model pgd"
    assert said["numbers"] == [False, True, True]
    assert found["part"] == []
    assert found["none"] == []


def test_rates_sort_as_numbers_and_missing_ones_come_last(said: dict[str, Any]) -> None:
    for name, turn in (("falling", -1), ("rising", 1)):
        texts, state = said[name]
        values = [-1.0 if text == "\N{EN DASH}" else float(text.removesuffix(" %")) for text in texts]
        assert values == sorted(values, reverse=turn < 0)
        assert state == {"falling": "descending", "rising": "ascending"}[name]
        assert len({len(text.split(".")[0]) for text in texts}) > 1, "texts of one length sort alike as text"


def test_columns_can_be_chosen_and_links_open_folds(said: dict[str, Any]) -> None:
    assert said["chosen"] is True
    assert said["opened"] is True
    assert re.fullmatch(r"cell-[0-9a-f]{12}", said["page"]["id"])


def test_nothing_is_wider_than_the_window(said: dict[str, Any]) -> None:
    assert said["page"]["wide"] is True


def test_a_large_page_loads_and_sorts_at_once(tmp_path: Path) -> None:
    write_tables(record_of(20, 10, 10, 3), tmp_path / "large")
    page = write_report(load_results(tmp_path / "large"))
    assert page.stat().st_size < 10 * 2**20
    assert probed(page, tmp_path, 1280)["sort_ms"] < 300


def test_print_fits_few_pages(published: Path, tmp_path: Path) -> None:
    shutil.copy(published / "report.html", tmp_path / "report.html")
    chromium(tmp_path / "report.html", f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer")
    pages = len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "report.pdf").read_bytes()))
    assert 1 <= pages <= 10
