"""`make reference` keeps what a reader of the results follows: tables, manifests and pictures, and nothing that is gone."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


MADE = (
    "poisons.csv",
    "provenance.json",
    "samples.parquet",
    "report.html",
    "poisons/a-0.1.json",
    "poisons/a-0.1.png",
    "roc/a.csv",
    "confusion/a__fgsm.csv",
    "curves/roc__a.png",
    "curves/roc__a.svg",
    "curves/robust_accuracy__fgsm.png",
    "curves/robust_accuracy__fgsm.svg",
)


def make_reference(folder: Path, **variables: str) -> int:
    command = ["make", "-f", str(ROOT / "Makefile"), "reference", "SUITE=mine"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, env={**os.environ, **variables}).returncode


@pytest.fixture
def results(tmp_path: Path) -> Path:
    found = tmp_path / "results" / "mine"
    for name in MADE:
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_text("{}" if name.endswith(".json") else name)
    return found


def test_reference_holds_tables_manifests_and_curves_but_no_large_file_and_no_image_of_the_data_set(
    tmp_path: Path, results: Path
) -> None:
    assert make_reference(tmp_path) == 0
    reference = tmp_path / "results" / "reference" / "mine"
    kept = {str(path.relative_to(reference)) for path in reference.rglob("*") if path.is_file()}
    assert set(MADE) - kept == {"samples.parquet", "report.html", "poisons/a-0.1.png", "roc/a.csv", "curves/roc__a.png"}
    assert kept <= set(MADE)


def test_reference_names_the_variables_instead_of_this_machines_folders(tmp_path: Path, results: Path) -> None:
    written = {"root": "/some/where/photos", "data set": ["/some/where", "/some/wherever"], "weights": "/some/where/else/net.pth"}
    (results / "provenance.json").write_text(json.dumps(written))
    assert make_reference(tmp_path, HARNESS_DATA="/some/where", HARNESS_WEIGHTS="/some/where/else/") == 0
    kept = json.loads((tmp_path / "results" / "reference" / "mine" / "provenance.json").read_text())
    assert kept == {
        "root": "${HARNESS_DATA}/photos",
        "data set": ["${HARNESS_DATA}", "/some/wherever"],
        "weights": "${HARNESS_WEIGHTS}/net.pth",
    }


@pytest.mark.parametrize("folder", ["", ".", "data", "/x#y", "/x/[y", "/ä b"])
def test_any_folder_may_stand_in_a_variable(tmp_path: Path, results: Path, folder: str) -> None:
    written = {"dataset": {"root": f"{folder}/photos"}, "note": "data."}
    (results / "provenance.json").write_text(json.dumps(written))
    assert make_reference(tmp_path, HARNESS_DATA=folder) == 0
    kept = json.loads((tmp_path / "results" / "reference" / "mine" / "provenance.json").read_text())
    assert kept == {"dataset": {"root": "${HARNESS_DATA}/photos" if folder else "/photos"}, "note": "data."}


def test_reference_with_a_broken_provenance_is_an_error(tmp_path: Path, results: Path) -> None:
    (results / "provenance.json").write_text("{")
    assert make_reference(tmp_path) != 0


def test_reference_forgets_what_the_results_no_longer_have(tmp_path: Path, results: Path) -> None:
    dropped = tmp_path / "results" / "reference" / "mine" / "curves" / "dropped.png"
    dropped.parent.mkdir(parents=True)
    dropped.write_text("")
    assert make_reference(tmp_path) == 0
    assert not dropped.exists()


def test_reference_without_results_stays(tmp_path: Path) -> None:
    kept = tmp_path / "results" / "reference" / "mine" / "cells.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text("")
    assert make_reference(tmp_path) != 0
    assert kept.exists()


def test_reference_of_more_than_five_megabytes_is_an_error(tmp_path: Path, results: Path) -> None:
    (results / "curves" / "roc__b.svg").write_bytes(bytes(6 * 1024**2))
    assert make_reference(tmp_path) != 0
