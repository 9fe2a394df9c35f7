from pathlib import Path

from PIL import Image

from harness.records import Status
from harness.reports.figures.curves import draw_figures
from harness.reports.load import load_results
from harness.reports.tables.write import write_tables
from tests.reports.conftest import Write
from tests.reports.planted import attack_results, clean_result, lost_result, record_of

NAMES = {
    *("robust_accuracy__worst_case", "robust_accuracy__fgsm", "robust_accuracy__pgd"),
    *(f"{kind}__{model}" for kind in ("confusion", "roc", "per_class", "history") for model in ("baseline", "pgd")),
}


def test_every_figure_is_an_svg_a_pdf_and_a_png(published: Path) -> None:
    files = {path.name for path in (published / "curves").iterdir()}
    assert files == {f"{name}.{ending}" for name in NAMES for ending in ("svg", "pdf", "png")}


def test_figures_are_pictures_with_ink(published: Path) -> None:
    for path in (published / "curves").glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width > 600
            darkest, lightest = picture.convert("L").getextrema()
            assert darkest < 100
            assert lightest == 255


def test_figures_carry_no_date(published: Path) -> None:
    assert "<dc:date>" not in (published / "curves" / "robust_accuracy__pgd.svg").read_text()


def test_the_same_run_draws_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tables(record_of(attack_results("pgd", "pgd")[:1], histories={}), tmp_path / name)
    first, second = (draw_figures(load_results(tmp_path / name)).files for name in ("a", "b"))
    assert len(first) == 15
    assert [path.name for path in first] == [path.name for path in second]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_figures_of_models_that_are_gone_are_removed(written: Write) -> None:
    results = written([clean_result("pgd")], histories={})
    for name in ("roc__gone.png", "notes.txt"):
        (results.folder / "curves").mkdir(exist_ok=True)
        (results.folder / "curves" / name).write_text("")
    draw_figures(results)
    assert not (results.folder / "curves" / "roc__gone.png").exists()
    assert (results.folder / "curves" / "notes.txt").exists()


def test_a_figure_is_drawn_anew_only_where_it_shows_something_else(written: Write) -> None:
    cells = [clean_result("pgd")]
    (folder,) = {path.parent for path in draw_figures(written(cells)).files}
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "roc__pgd.svg").write_text("damaged")
    history = ({"epoch": 1, "train_loss": 2.0},)
    draw_figures(written(cells, histories={"pgd": history}))
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    changed = {name for name, moment in after.items() if moment != before[name]}
    assert changed == {f"{name}__pgd.{ending}" for name in ("roc", "history") for ending in ("svg", "pdf", "png")}


def test_a_run_without_attacks_can_be_drawn(written: Write) -> None:
    cells = [clean_result("pgd"), lost_result("broken", Status.FAILED, "diverged")]
    names = {path.stem for path in draw_figures(written(cells, histories={})).files}
    assert names == {"confusion__pgd", "roc__pgd", "per_class__pgd"}
