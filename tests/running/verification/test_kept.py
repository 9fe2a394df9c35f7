"""Attacked images that a suite keeps: as many and as large as planned, those of the cells, and readable by verify."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from harness.errors import SuiteError
from harness.planning.plan import Plan, plan_of
from harness.suites.files import load_suite
from harness.suites.suite import Suite
from tests.nets import ON_DIGITS
from tests.running.verification.conftest import run_without_page
from tests.running.verification.test_rederive import call

KEEPING = (
    f"name: keeping{ON_DIGITS}"
    + """
models:
  one: {recipe: {name: standard, epochs: 2, batch_size: 64, optimiser: {learning_rate: 0.01}}}
threat_model: {norm: Linf, eps: [4/255, 16/255]}
attacks:
  fgsm: {name: fgsm}
  pgd: {name: pgd, steps: 3}
evaluation: {limit: 40}
"""
)
KEEP = "keep={attacks: [pgd], eps: [16/255]}"
NAME = "one__pgd__eps-16-255.h5"


def suite(folder: Path, *overrides: str) -> Suite:
    (folder / "keeping.yaml").write_text(KEEPING)
    return load_suite(folder / "keeping.yaml", overrides)


def planned(suite: Suite) -> Plan:
    return plan_of(suite, suite.dataset.load())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that kept nothing in `plain`, and after it one of the same store that kept images in `kept`."""
    folder = tmp_path_factory.mktemp("kept")
    for name, overrides in (("plain", ()), ("kept", (KEEP,))):
        suite(folder, *overrides)
        run_without_page(folder / "keeping.yaml", *overrides, out=folder / name, store=folder / ".store")
    return folder


def test_keep_changes_no_digest_and_no_number(place: Path) -> None:
    plain, keeping = planned(suite(place)), planned(suite(place, KEEP))
    digests = [step.digest for step in plain.steps]
    assert [step.digest for step in keeping.steps][: len(digests)] == digests
    assert [step.KIND for step in keeping.steps][len(digests) :] == ["attacked"]
    assert [cell.digest for cell in keeping.cells] == [cell.digest for cell in plain.cells]
    for name in ("cells.csv", "sweep.csv", "leaderboard.csv"):
        tables = [pd.read_csv(place / run / name).drop(columns="status", errors="ignore") for run in ("plain", "kept")]
        pd.testing.assert_frame_equal(*tables)
    assert not (place / "plain" / "attacked").exists()


def test_kept_files_are_those_of_the_plan_and_no_larger(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", str(place / "keeping.yaml"), "--set", KEEP, "--store", str(place / ".store")) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("\t") for line in lines[lines.index("model\tattack\teps\timages\tMB at most") + 1 :][:1]]
    assert [row[:4] for row in rows] == [["one", "pgd", "16/255", "40"]]
    written = {path.name for path in (place / "kept" / "attacked").iterdir()}
    assert written == {str(Path(NAME).with_suffix(ending)) for ending in (".h5", ".json", ".png")}
    size = (place / "kept" / "attacked" / NAME).stat().st_size
    step = planned(suite(place, KEEP)).kept[0]
    examples = planned(suite(place, KEEP)).examples.of(suite(place).dataset.load())
    assert 40 * 16 * 16 * 3 < size <= step.most_bytes(examples)
    assert float(rows[0][4]) == round(step.most_bytes(examples) / 1e6, 1)
    assert any(line.startswith("attacked\tkeep images of pgd on one") and line.endswith("finished") for line in lines)


def test_kept_images_are_those_of_the_cell_with_hashes_labels_and_predictions(place: Path) -> None:
    samples = pd.read_parquet(place / "kept" / "samples.parquet").query("attack == 'pgd' and eps > 0.05")
    clean = suite(place).dataset.load()
    images = dict(zip(clean.splits["test"].ids, range(len(clean.splits["test"])), strict=True))
    with h5py.File(place / "kept" / "attacked" / NAME) as file:
        assert dict(file.attrs) | {"schema_version": 1} == {
            "schema_version": 1,
            "model": b"one",
            "norm": b"Linf",
            "eps": b"16/255",
            "attack": b"pgd",
            "digest": samples["digest"].iloc[0].encode(),
        }
        assert file["x"].dtype == np.float32
        assert file["x"].chunks == (1, 3, 16, 16)
        assert file["x"].compression == "gzip"
        assert [name.decode() for name in file["example_id"]] == samples["example_id"].tolist()
        assert [name.decode() for name in file["content_hash"]] == samples["content_hash"].tolist()
        assert file["label"][:].tolist() == samples["label"].tolist()
        assert file["prediction"][:].tolist() == samples["prediction"].tolist()
        x, test = file["x"][:], clean.splits["test"]
    originals = np.stack([test[images[name]][0].numpy() for name in samples["example_id"]])
    distance = np.abs(x - originals).max(axis=(1, 2, 3))
    np.testing.assert_allclose(distance, samples["distance"], atol=1e-6)


def test_verify_reads_a_kept_file_back_and_names_an_image_that_is_not_the_cell_s(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = place / "kept" / "attacked" / NAME
    assert call("verify", str(place / "kept"), "--images", str(kept)) == 0
    assert f"{NAME} 40" in capsys.readouterr().out
    table = pd.read_csv(place / "kept" / "best_known.csv")
    assert (table["from_elsewhere"] == 0).all()
    (tmp_path / NAME).write_bytes(kept.read_bytes())
    samples = pd.read_parquet(place / "kept" / "samples.parquet").query("attack == 'pgd' and eps > 0.05").reset_index()
    row = int(samples.index[samples["fooled"]][0])
    test = suite(place).dataset.load().splits["test"]
    name = samples["example_id"][row]
    with h5py.File(tmp_path / NAME, "r+") as file:
        file["x"][row] = test[list(test.ids).index(name)][0].numpy()  # within the ball, but not the image of the cell
    assert call("verify", str(place / "kept"), "--images", str(tmp_path / NAME)) == 1
    said = capsys.readouterr().out
    assert f"{NAME}: {name}: prediction: written {samples['prediction'][row]}, expected {samples['label'][row]}\n" in said
    assert f"samples.parquet: {NAME}, {name}: distance: written 0.06" in said
    assert ", expected 0.0\n" in said
    assert "3 differences" in said


def test_images_that_are_no_longer_kept_are_removed(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run_without_page(place / "keeping.yaml", KEEP, out=folder, store=place / ".store")
    (folder / "attacked" / "mine.txt").write_text("a note")
    run_without_page(place / "keeping.yaml", "keep={attacks: [fgsm]}", out=folder, store=place / ".store")
    names = sorted(path.name for path in (folder / "attacked").iterdir())
    kept = [f"one__fgsm__eps-{eps}-255.{ending}" for eps in (16, 4) for ending in ("h5", "json", "png")]
    assert names == ["mine.txt", *kept]


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("{attacks: [square]}", "keep.attacks: expected one of fgsm, pgd, got 'square'"),
        ("{attacks: [pgd], eps: [8/255]}", "keep.eps: expected one of 16/255, 4/255, got '8/255'"),
        ("{attacks: []}", "keep.attacks: expected"),
        ("{eps: [4/255]}", "keep.attacks: required field is missing"),
        ("{attack: [pgd]}", "keep.attack: unknown field"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, keep: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message.replace("[", "\\[")):
        suite(tmp_path, f"keep={keep}")
