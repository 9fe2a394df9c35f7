import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.reports.load import Results, load_results, once
from harness.reports.page.html import write_report
from tests.reports.conftest import Write
from tests.reports.planted import clean_result, corruption_result


def test_a_folder_is_read_back_without_its_record(results: Results) -> None:
    assert results.suite_name == "synthetic"
    assert results.provenance["class_names"] == ["beet", "carrot", "null"]
    assert results.expectations["holds"].isna().sum() == 1
    assert results.crossruntime.empty
    assert results.transfer.empty


def test_text_that_looks_like_something_else_stays_text(results: Results) -> None:
    assert results.cells.loc[results.cells["condition"] == "clean", "attack"].tolist() == ["none", "none"]
    assert results.cells["digest"].map(type).eq(str).all()
    assert str(results.cells["n_examples"].dtype) == "Int64"


def test_a_folder_without_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"expected a results folder with a cells.csv, found none; `harness run` writes one"):
        load_results(tmp_path)


def test_another_schema_version_is_refused(written: Write) -> None:
    results = written([clean_result("pgd")])
    path = results.folder / "provenance.json"
    path.write_text(json.dumps({**results.provenance, "schema_version": 99}))
    with pytest.raises(HarnessError, match=r"provenance.json: expected schema_version 1, found 99; run the suite again"):
        load_results(results.folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cells.csv", "", r"cells.csv: expected a table of a run, found No columns"),
        ("cells.csv", "model\npgd\n", r"cells.csv: expected the columns dataset, arch, .* found none of that name"),
        ("samples.parquet", "no parquet", r"samples.parquet: expected a parquet file of a run"),
    ],
)
def test_a_damaged_file_is_named(written: Write, name: str, content: str, message: str) -> None:
    folder = written([clean_result("pgd")]).folder
    (folder / name).write_text(content)
    results = load_results(folder)
    with pytest.raises(HarnessError, match=message):
        _ = results.cells if name == "cells.csv" else results.samples


def test_a_run_from_before_a_column_is_read_with_the_column_empty(written: Write) -> None:
    results = written([clean_result("pgd"), corruption_result("pgd", "fog", 1, 10)])
    results.cells.drop(columns="corruption_group").to_csv(results.folder / "cells.csv", index=False)
    older = load_results(results.folder).cells
    assert older["corruption_group"].isna().all()
    assert older["accuracy"].tolist() == results.cells["accuracy"].tolist()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cells.csv", (",10,", ",ten,"), r"cells\.csv: column steps: expected numbers, found 'ten'"),
        ("cells.csv", (",40,", ",40.5,"), r"cells\.csv: expected whole numbers where a run writes them"),
        ("before_after.csv", (",0.9,0.65,", ",most,0.65,"), r"before_after\.csv: column \w+: expected numbers, found 'most'"),
        ("confusion/pgd__clean.csv", (",3,", ",x,"), r"pgd__clean\.csv: column carrot: expected numbers, found 'x'"),
    ],
)
def test_text_in_place_of_a_number_is_named_with_its_column(
    published: Path, tmp_path: Path, name: str, change: tuple[str, str], message: str
) -> None:
    shutil.copytree(published, folder := tmp_path / "run")
    text = (folder / name).read_text()
    assert change[0] in text
    (folder / name).write_text(text.replace(*change))
    with pytest.raises(HarnessError, match=message):
        write_report(load_results(folder))


def test_parquet_file_that_ends_early_is_named(written: Write) -> None:
    results = written([clean_result("pgd")])
    path = results.folder / "samples.parquet"
    whole = path.read_bytes()
    for length in (3, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(HarnessError, match=r"samples\.parquet: expected a parquet file of a run, found"):
            _ = load_results(results.folder).samples


def test_what_figures_and_page_share_is_computed_once_for_the_same_tables(results: Results) -> None:
    calls = []

    @once
    def counted(of: Results, model: str) -> int:
        calls.append(model)
        return int((of.cells["model"] == model).sum())

    own = load_results(results.folder)
    assert counted(own, "pgd") == counted(own, "pgd") == int((results.cells["model"] == "pgd").sum())
    assert counted(own, "absent") == 0
    assert calls == ["pgd", "absent"]
    counted(load_results(results.folder), "pgd")
    assert calls == ["pgd", "absent", "pgd"], "another reading of the folder may find other tables"


def test_samples_of_a_cell_are_its_rows_in_their_order(results: Results) -> None:
    for digest in results.samples["digest"].unique():
        whole = results.samples[results.samples["digest"] == digest]
        pd.testing.assert_frame_equal(results.samples_of(str(digest)), whole)
    assert results.samples_of("none of that name").empty


def test_parquet_file_of_more_rows_than_bytes_is_refused(written: Write) -> None:
    results = written([clean_result("pgd")])
    path = results.folder / "samples.parquet"
    pd.DataFrame({"digest": ["0"]}).loc[[0] * 1_000_000].to_parquet(path, index=False)
    with pytest.raises(HarnessError, match=r"expected a parquet file of a run, found ValueError: 1,000,000 rows in"):
        _ = results.samples
