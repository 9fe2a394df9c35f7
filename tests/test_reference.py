"""`make reference` keeps what a reader of the results follows: tables, manifests and pictures, and nothing that is gone."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make_reference(folder: Path) -> int:
    return subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "reference", "SUITE=mine"], cwd=folder, capture_output=True, check=False
    ).returncode


@pytest.fixture
def results(tmp_path: Path) -> Path:
    found = tmp_path / "results" / "mine"
    for name in ("poisons.csv", "provenance.json", "samples.parquet", "poisons/a-0.1.json", "poisons/a-0.1.png", "roc/a.csv"):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_text(name)
    return found


def test_reference_holds_the_manifests_and_no_large_file(tmp_path: Path, results: Path) -> None:
    assert make_reference(tmp_path) == 0
    reference = tmp_path / "results" / "reference" / "mine"
    kept = {str(path.relative_to(reference)) for path in reference.rglob("*") if path.is_file()}
    assert kept == {"poisons.csv", "provenance.json", "poisons/a-0.1.json", "poisons/a-0.1.png"}


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
    (results / "poisons" / "b.png").write_bytes(bytes(6 * 1024**2))
    assert make_reference(tmp_path) != 0
