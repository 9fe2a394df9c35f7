"""Reports to look at in a browser, and what is asked of them there."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from harness.reports.files import write_text
from harness.reports.load import load_results
from harness.reports.names import texts_as_objects
from harness.reports.page.examples import ACROSS, COLUMNS, FOLDER, SHEET, TABLE
from harness.reports.page.html import REPORT, render
from harness.reports.tables.write import write_tables
from tests.bench.report import record_of as large_record
from tests.reports.page.test_gallery import kept
from tests.reports.planted import CLASSES, LABELS, N, attack_results, clean_result, digest_of, grid, record_of

REFERENCES = Path(__file__).parents[3] / "results" / "reference"
MARKUP = '<img src=x onerror="alert(1)">'
LONG = "a" * 300
CJK = "\N{CJK UNIFIED IDEOGRAPH-8FA3}\N{CJK UNIFIED IDEOGRAPH-6912}"
MODELS = 20

DARKEST = """
() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, place) => value * a + below[place] * (1 - a));
  const light = (rgb) => rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
  const paper = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => layer[3] ? over(layer, below) : below, [255, 255, 255]);
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, style, caption")) continue;
    const style = getComputedStyle(element), below = paper(element);
    const ink = over(parse(element.closest("svg") ? style.fill : style.color), below);
    const [high, low] = [light(ink), light(below)].sort((a, b) => b - a);
    found.push([(high + 0.05) / (low + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found.sort(([a], [b]) => a - b)[0];
}
"""
"""The least contrast of a text with what is below it, as WCAG 2 measures it, and the text. Source: WCAG 2.2, 1.4.3."""

UNFOLD = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"

CUT = """
() => [...document.querySelectorAll("table, svg, img, p, li, figure")]
  .filter((element) => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 1)
  .map((element) => `${element.tagName} ${element.id} ${element.textContent.trim().slice(0, 60)}`)
"""
"""What ends right of the window."""


def column(page: Any, table: str, name: str) -> list[str]:
    """Returns the texts of a table's column, row by row, as far as rows are shown; without the small text below them."""
    return page.evaluate(
        """([id, name]) => {
          const table = document.getElementById(id);
          const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === name);
          return [...table.tBodies[0].rows].filter((row) => !row.hidden)
            .map((row) => row.cells[place].firstChild.textContent.trim());
        }""",
        [table, name],
    )


def conditions(page: Any) -> list[str]:
    """Returns the conditions of the rows of the table of cells that are shown."""
    return page.eval_on_selector_all(
        "#table-cells tbody tr", "rows => rows.filter((row) => !row.hidden).map((row) => row.querySelector('small').textContent)"
    )


def of_reference(name: str, folder: Path) -> Path:
    """Returns the page of a committed reference, without drawn figures."""
    shutil.copytree(REFERENCES / name, folder)
    return written(folder)


def planted(folder: Path) -> Path:
    """Returns the page of the planted run, with thumbnails and a picture of attacked images."""
    write_tables(record_of(grid()), folder)
    add_thumbnails(folder)
    kept(folder)
    return written(folder)


def add_thumbnails(folder: Path) -> None:
    """Adds thumbnails of the planted run's examples, of one colour."""
    (folder / FOLDER).mkdir()
    Image.new("RGB", (16 * ACROSS, 16 * (N // ACROSS)), "teal").save(folder / SHEET)
    rows = [(place, f"image-{place}.png", digest_of(place), CLASSES[label]) for place, label in enumerate(LABELS)]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / TABLE, index=False)


def with_hostile_names(folder: Path) -> Path:
    """Returns the page of a run whose classes, models and title hold markup, 300 letters and ideographs."""
    cells = [clean_result("pgd"), *attack_results("pgd", "pgd")]
    renamed = [it.__class__(**{**vars(it), "cell": it.cell.model_copy(update={"model": MARKUP})}) for it in cells]
    suite = {"name": "hostile", "title": f"Title {MARKUP}", "description": f"</style>{MARKUP}"}
    record = record_of(renamed, class_names=(MARKUP, LONG, CJK), suite=suite, histories={}, trainings={}, expectations=())
    write_tables(record, folder)
    return written(folder)


def large(folder: Path) -> Path:
    """Returns the page of 20 models x 10 attacks x 10 budgets x 60 classes.

    One model's tables are written and then repeated under other names: the page has the same size, and its tables cost a
    twentieth.
    """
    write_tables(large_record(1, 10, 10, 60), folder)
    (folder / "samples.parquet").unlink()
    for path in folder.glob("*.csv"):
        if "model" in (table := pd.read_csv(path, keep_default_na=False, dtype=str)):
            pd.concat([_renamed(table, number) for number in range(MODELS)]).to_csv(path, index=False)
    for path in [path for subfolder in ("confusion", "roc") for path in (folder / subfolder).glob("model-0__*.csv")]:
        for number in range(1, MODELS):
            shutil.copyfile(path, path.with_name(path.name.replace("model-0", f"model-{number}", 1)))
    return written(folder)


def _renamed(table: pd.DataFrame, number: int) -> pd.DataFrame:
    digests = {name: table[name].map(partial(digest_of, number)) for name in ("digest",) if name in table}
    return table.assign(model=f"model {number}", **digests)


@texts_as_objects()
def written(folder: Path) -> Path:
    """Returns the page of a folder's tables; no figure is drawn for it."""
    write_text(folder / REPORT, render(load_results(folder)))
    return folder / REPORT


MADE_UP = {"planted": planted, "hostile": with_hostile_names, "large": large}
"""Name of a page -> what writes it into a folder; other names are those of committed references."""
