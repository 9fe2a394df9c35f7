"""A folder of the user's own images, from the suite to the bundle."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.bundle import read_bundle
from harness.datasets.base import DATASETS
from harness.deployment.selection import bundling_of
from harness.errors import DataError
from harness.images import ImageSplit
from harness.metrics import wilson_interval
from harness.planning.plan import plan_of
from harness.reports.load import Results, load_results
from harness.running.runner import run
from harness.running.workspace import open_workbench
from harness.steps.conditions import FromFolder
from harness.steps.train import Train
from harness.suites.files import load_suite
from harness.suites.suite import Suite
from tests.nets import ON_DIGITS

CLASSES = ("7", "3")
EACH = 12
SUITE = (
    f"name: mine{ON_DIGITS}"
    + """
models:
  baseline: {recipe: {name: standard, epochs: 1, batch_size: 64}}
threat_model: {norm: Linf, eps: [4/255]}
attacks: {fgsm: {name: fgsm}}
corruptions: {fog: {name: fog, severities: [1]}}
folders: {street: {root: "${STREET}"}}
evaluation: {limit: 40}
crosscheck: {limit: 10, attacks: []}
"""
)

Load = Callable[[Path], Suite]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enlarged test digits of two classes, as PNG files."""
    root, split = tmp_path_factory.mktemp("photographs") / "street", digits()
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for number, place in enumerate(np.flatnonzero(split.labels == int(name))[:EACH]):
            pixels = (255 * split[int(place)][0].permute(1, 2, 0).numpy()).round().astype(np.uint8)
            Image.fromarray(pixels).resize((40, 30)).save(root / name / f"{number:02d}.png")
    return root


def digits() -> ImageSplit:
    return DATASETS.parse({"name": "digits", "resolution": 16}).load().splits["test"]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    def load(root: Path) -> Suite:
        monkeypatch.setenv("STREET", str(root))
        (tmp_path / "mine.yaml").write_text(SUITE)
        return load_suite(tmp_path / "mine.yaml")

    return load


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def results(street: Path, place: Path) -> Results:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREET", str(street))
        (place / "mine.yaml").write_text(SUITE)
        summary = run(load_suite(place / "mine.yaml"), out=place / "out", store=place / "store", device="cpu")
    assert summary.ok
    return load_results(summary.folder)


def step_of(suite: Suite) -> FromFolder:
    plan = plan_of(suite, suite.dataset.load())
    return next(step for step in plan.steps if isinstance(step, FromFolder))


def test_row_has_the_scores_of_the_folders_own_images(results: Results) -> None:
    row = results.cells[results.cells["condition"] == "folder"].iloc[0]
    samples = results.samples[results.samples["condition"] == "folder"]
    low, high = wilson_interval(int(samples["correct"].sum()), 2 * EACH)
    assert (row["attack"], row["n_examples"], row["status"]) == ("street", 2 * EACH, "done")
    assert row["accuracy"] == row["clean_accuracy"] == pytest.approx(samples["correct"].mean())
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((low, high))
    assert row[["robust_accuracy", "attack_success_rate"]].isna().all()


def test_examples_are_named_as_in_the_folder_and_keep_the_indices_of_their_classes(results: Results) -> None:
    samples = results.samples[results.samples["condition"] == "folder"]
    assert samples["example_id"].tolist() == [f"{name}/{number:02d}.png" for name in sorted(CLASSES) for number in range(EACH)]
    assert samples["label"].tolist() == [3] * EACH + [7] * EACH


def test_classes_are_counted_apart_and_confusions_written(results: Results) -> None:
    rows = results.per_class[results.per_class["condition"] == "folder"].set_index("class")
    confusion = results.matrix("confusion", "baseline__folder-street").set_index("true_class")
    expected = {str(k): EACH if str(k) in CLASSES else 0 for k in range(10)}
    assert rows["support"].to_dict() == confusion.sum(axis=1).to_dict() == expected


def test_folder_is_on_the_page_and_in_no_mean(results: Results) -> None:
    fog = results.cells.loc[results.cells["condition"] == "corruption", "accuracy"].item()
    assert "folder street" in (results.folder / "report.html").read_text()
    assert results.leaderboard["mean_corruption_accuracy"].item() == pytest.approx(fog)
    assert results.leaderboard["n_examples"].item() == 40
    assert "folder" not in set(results.before_after["condition"])


def test_bundle_holds_a_stratified_part_with_its_labels_and_pytorchs_logits(place: Path, load: Load, street: Path) -> None:
    suite = load(street)
    assert (place / "store").is_dir()
    bench = open_workbench(suite, store=place / "store")
    step = bundling_of(bench.plan, suite.variant("baseline"), bench.context.data.class_names)
    assert bench.finish(step) == []
    bundle = read_bundle(step.file(bench.context))
    stored = bundle.condition("folder street")
    batch = next(bundle.batches("folder street", 10))
    assert (stored.n, stored.spec.kind, stored.spec.attack, stored.spec.clean) == (10, "folder", "street", None)
    assert np.bincount(batch.y, minlength=10).tolist() == [0, 0, 0, 5, 0, 0, 0, 5, 0, 0]
    assert batch.logits is not None
    assert len(bundle.rows("clean")) == 10


@pytest.mark.parametrize(("side", "stored"), [(40, True), (16, False)])
def test_folder_is_rounded_to_8_bits_where_resizing_left_more(
    place: Path, load: Load, street: Path, tmp_path: Path, side: int, *, stored: bool
) -> None:
    shutil.copytree(street, tmp_path / "shots")
    for file in (tmp_path / "shots").rglob("*.png"):
        Image.open(file).resize((side, side)).save(file)
    bench = open_workbench(load(tmp_path / "shots"), store=place / "store")
    step = bundling_of(bench.plan, bench.plan.suite.variant("baseline"), bench.context.data.class_names)
    assert bench.finish(step) == []
    names = [condition.spec.name for condition in read_bundle(step.file(bench.context)).conditions]
    assert ("folder street rounded8bit" in names) == stored
    assert "clean rounded8bit" in names


def test_digest_is_of_the_content_and_not_of_the_place(load: Load, street: Path, tmp_path: Path) -> None:
    before = step_of(load(street))
    shutil.copytree(street, tmp_path / "moved")
    moved = step_of(load(tmp_path / "moved"))
    Image.new("RGB", (9, 9)).save(tmp_path / "moved" / "3" / "00.png")
    assert moved.digest == before.digest
    assert step_of(load(tmp_path / "moved")).digest != before.digest


def test_label_of_an_image_is_in_the_digest(load: Load, street: Path, tmp_path: Path) -> None:
    shutil.copytree(street, tmp_path / "other")
    (tmp_path / "other" / "7").rename(tmp_path / "other" / "8")
    assert step_of(load(tmp_path / "other")).digest != step_of(load(street)).digest


def damaged(street: Path, root: Path, damage: str) -> Path:
    shutil.copytree(street, root)
    if damage == "missing":
        shutil.rmtree(root)
    elif damage == "unknown class":
        (root / "7").rename(root / "seven")
    elif damage == "empty":
        for name in CLASSES:
            shutil.rmtree(root / name)
    elif damage == "class without images":
        shutil.rmtree(root / "3")
        (root / "3").mkdir()
    else:
        (root / "3" / "05.png").write_bytes(b"\x89PNG")
    return root


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"^folders\.street\.root: .*shots: expected a folder of images, found nothing$"),
        ("unknown class", r"^folders\.street\.root: .*shots: expected folders named as the classes 0, 1, .*, found seven$"),
        ("empty", r"^folders\.street\.root: .*shots: expected folders named as the classes 0, 1, .*, found none$"),
        ("class without images", r"shots: expected at least one image in every class folder, found none in 3$"),
        ("broken image", r"shots: expected images that can be decoded, got 1 broken: 3/05\.png \(.*\)$"),
    ],
)
def test_bad_folder_is_one_line_before_anything_is_trained(
    load: Load, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, damage: str, message: str
) -> None:
    monkeypatch.setattr(Train, "run", lambda *_: pytest.fail("something was trained"))
    suite = load(damaged(street, tmp_path / "shots", damage))
    with pytest.raises(DataError, match=message) as error:
        run(suite, out=tmp_path / "out", store=tmp_path / "store", device="cpu")
    assert "\n" not in str(error.value)
