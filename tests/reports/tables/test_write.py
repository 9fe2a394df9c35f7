import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.records import CELL_COLUMNS, RunRecord
from harness.reports.load import Results
from harness.reports.tables.write import cells_table, write_tables
from tests.reports.conftest import Write
from tests.reports.planted import CLASSES, LABELS, N, attack_results, clean_result, corruption_result, grid, record_of

CHECK = Path(__file__).parents[3].parent / "shared" / "check_artifacts.py"


def test_the_folder_keeps_the_contract(published: Path) -> None:
    if not CHECK.is_file():
        pytest.skip("needs ../shared/check_artifacts.py")
    assert runpy.run_path(str(CHECK))["shortfalls"](published) == []


def test_cells_are_one_row_each_in_the_order_of_the_grid(results: Results) -> None:
    assert tuple(results.cells.columns) == CELL_COLUMNS
    assert list(results.cells["digest"]) == [result.digest for result in grid()]
    assert list(results.cells["status"].value_counts()[["cached", "done", "failed", "skipped"]]) == [12, 2, 1, 1]


def test_the_file_holds_exactly_the_numbers_of_the_table(record: RunRecord, results: Results) -> None:
    assert results.cells.to_csv(index=False) == cells_table(record).to_csv(index=False)


def test_clean_accuracy_stands_on_every_row_of_its_model(results: Results) -> None:
    done = results.cells[results.cells["accuracy"].notna()]
    assert done.groupby("model")["clean_accuracy"].unique().map(list).to_dict() == {"baseline": [0.9], "pgd": [0.8]}


def test_a_cell_that_is_not_done_has_no_number(results: Results) -> None:
    lost = results.cells[results.cells["status"].isin(["failed", "skipped"])]
    numbers = CELL_COLUMNS[CELL_COLUMNS.index("n_examples") : CELL_COLUMNS.index("verdict")]
    assert lost[list(numbers)].isna().all(axis=None)
    assert set(lost["reason"]) == {"RuntimeError: out of memory", "fgsm has no L1 form"}


def test_samples_hold_every_example_of_every_cell(results: Results) -> None:
    cell = attack_results("pgd", "pgd")[1]
    rows = results.samples[results.samples["digest"] == cell.digest].reset_index(drop=True)
    assert list(rows["example_id"][:2]) == ["image-0.png", "image-1.png"]
    assert list(rows["label"]) == list(LABELS)
    assert (~rows["clean_correct"]).sum() == 8
    assert list(np.flatnonzero(rows["fooled"])) == list(range(10, 18))
    assert list(rows.loc[[10, 17, 25], "smallest_eps"]) == pytest.approx([2 / 255, 4 / 255, 8 / 255])
    assert np.isinf(rows["smallest_eps"][39])
    assert len(results.samples) == 14 * N


def test_samples_of_a_clean_cell_have_no_smallest_eps(results: Results) -> None:
    assert results.samples.loc[results.samples["condition"] == "clean", "smallest_eps"].isna().all()


def test_confusion_and_roc_lie_under_readable_names(results: Results) -> None:
    confusion = results.matrix("confusion", "pgd__fgsm__eps-8-255")
    assert list(confusion.columns) == ["true_class", *CLASSES]
    assert list(confusion["true_class"]) == list(CLASSES)
    assert confusion[list(CLASSES)].to_numpy().sum() == N
    assert np.diag(confusion[list(CLASSES)]).sum() == 20
    curves = results.matrix("roc", "pgd__fgsm__eps-8-255")
    assert list(curves["class"].unique()) == list(CLASSES)
    assert curves[["false_positive_rate", "true_positive_rate"]].stack().between(0, 1).all()


def test_a_class_called_null_is_a_class(results: Results) -> None:
    assert set(results.per_class["class"]) == set(CLASSES)


def test_history_holds_every_epoch_of_every_model(results: Results) -> None:
    assert results.history.groupby("model").size().to_dict() == {"baseline": 6, "pgd": 6}
    assert results.history.loc[results.history["model"] == "baseline", "validation_robust_accuracy"].isna().all()


def test_training_holds_the_kept_epoch_and_the_warnings_of_every_model(results: Results) -> None:
    rows = results.training.set_index("model")
    assert rows["best_epoch"].to_dict() == {"baseline": 5, "pgd": 4}
    assert rows.loc["pgd", "robust_overfitting"] == 0.07
    assert rows.loc["pgd", "warnings"] == "robust overfitting: 7 points <less>; collapsed: one class"
    assert pd.isna(rows.loc["baseline", "warnings"])


def test_a_run_that_trained_nothing_has_no_table_of_trainings(written: Write) -> None:
    results = written([clean_result("pgd")], histories={}, trainings={})
    assert results.training.empty
    assert not (results.folder / "training.csv").exists()


def test_a_second_run_replaces_the_first_and_removes_cells_that_are_gone(tmp_path: Path) -> None:
    write_tables(record_of([clean_result("baseline"), clean_result("pgd")]), tmp_path)
    (tmp_path / "crossruntime.csv").write_text("model\npgd\n")
    write_tables(record_of([clean_result("pgd")]), tmp_path)
    assert [path.name for path in (tmp_path / "confusion").iterdir()] == ["pgd__clean.csv"]
    assert (tmp_path / "crossruntime.csv").is_file()
    assert not list(tmp_path.glob(".*"))


def test_the_same_run_writes_the_same_bytes(record: RunRecord, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tables(record, tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) > 30
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_other_numbers_of_examples_than_named_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="expected 2 examples, as many as are named, got 40"):
        write_tables(record_of(grid(), example_ids=("a", "b"), example_hashes=("c", "d")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_in_which_nothing_finished_has_tables_too(written: Write) -> None:
    results = written(grid()[-2:], histories={}, expectations=())
    assert len(results.cells) == 2
    assert all(
        table.empty for table in (results.samples, results.per_class, results.sweep, results.before_after, results.history)
    )


def test_conditions_of_every_kind_are_compared_with_the_clean_images(written: Write) -> None:
    results = written([clean_result("pgd"), corruption_result("pgd", "fog", 1, 12), *attack_results("pgd", "pgd")])
    assert list(results.before_after["condition"]) == ["corruption", "attack", "attack", "attack"]
    assert results.before_after["accuracy_difference"].iloc[0] == pytest.approx((40 - 12) / 40 - 0.8)
