"""Planted poisons and detections: every number of the tables, figures and the page is known beforehand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.metrics import wilson_interval
from harness.poisoning.manifest import Manifest, PoisonedExample
from harness.records import Cell, CellResult, ConditionResult, DetectionResult, PoisonedSet, Status, Verdict
from harness.reports.figures.curves import draw_figures
from harness.reports.figures.poison_charts import detector_charts, success_charts
from harness.reports.load import Results
from harness.reports.page.html import render
from harness.reports.page.poisons import detectors_table, pictures, poisons_table
from harness.reports.summary import trouble_table
from harness.reports.tables.write import write_tables
from tests.reports.conftest import Write
from tests.reports.planted import (
    CLASSES,
    LABELS,
    N,
    cell_of,
    clean_result,
    digest_of,
    logits_of,
    lost_result,
    predicted_with_errors,
    record_of,
    trigger_result,
)

BEET = CLASSES.index("beet")
OTHERS = np.flatnonzero(LABELS != BEET)
"""Examples of other classes: what a trigger is tried on."""


def poisoned_cell(rate: float, *, seed: int = 0, poison: str = "backdoor", condition: str = "clean") -> Cell:
    return cell_of("pgd", poison=poison, poison_rate=rate, target_class="beet", seed=seed, condition=condition)


def clean_of(cell: Cell, wrong: int) -> CellResult:
    logits = logits_of(predicted_with_errors(range(wrong)))
    condition = ConditionResult(None, logits, np.zeros(N, bool), np.zeros(N, np.float32), forwards=N)
    return CellResult(cell, digest_of(cell), Status.DONE, "", LABELS, logits, condition, None, Verdict.PASS)


def triggered(rate: float, hits: int, *, seed: int = 0) -> CellResult:
    """A model that is right on the images of other classes, and answers "beet" on the first `hits` with the trigger."""
    labels = LABELS[OTHERS]
    after = np.where(np.arange(len(labels)) < hits, BEET, labels)
    condition = ConditionResult(None, logits_of(after), np.zeros(len(labels), bool), np.zeros(len(labels), np.float32))
    cell = poisoned_cell(rate, seed=seed, condition="trigger")
    return CellResult(
        cell,
        digest_of(cell),
        Status.DONE,
        labels=labels,
        clean_logits=logits_of(labels),
        condition=condition,
        verdict=Verdict.PASS,
        example_ids=tuple(f"image-{index}.png" for index in OTHERS),
        example_hashes=tuple(digest_of(int(index)) for index in OTHERS),
    )


def facts_of(cell: Cell, poisoned: int, targets: int | None = None) -> PoisonedSet:
    return PoisonedSet(
        cell,
        manifest="poisons/planted.json",
        digest=digest_of("poison", cell),
        training_examples=200,
        poisoned=poisoned,
        largest_change=0.5,
        changed_pixels=4,
        trigger_sha256="ab" * 32,
        targets=targets,
    )


def detection_of(cell: Cell, after: Sequence[CellResult] = ()) -> DetectionResult:
    score = {
        **{"examples": 200, "poisoned": 10, "suspected": 12, "threshold": None, "auc": 0.9, "precision": 0.5, "recall": 0.6},
        **{"false_alarm_rate": 0.03, "roc": [[0.0, 0.0], [0.1, 0.9], [1.0, 1.0]]},
    }
    control = {**score, "poisoned": 0, "false_alarm_rate": 0.25, "auc": None, "roc": []}
    digest = digest_of("detect", cell)
    return DetectionResult(
        cell, "spectral", "training", Status.DONE, digest=digest, score=score, control=control, after=tuple(after)
    )


CELLS = (
    clean_result("pgd"),
    clean_of(poisoned_cell(0.05), 10),
    triggered(0.05, 13),
    clean_of(poisoned_cell(0.1), 12),
    triggered(0.1, 26),
)
POISONED = (facts_of(poisoned_cell(0.05), 10), facts_of(poisoned_cell(0.1), 20))
AFTER = (clean_of(poisoned_cell(0.05), 9), triggered(0.05, 2))


@pytest.fixture
def poisoned(written: Write) -> Results:
    return written(CELLS, poisoned=POISONED, detections=(detection_of(poisoned_cell(0.05), AFTER),))


def test_a_poison_has_its_manifest_its_cost_and_its_success(poisoned: Results) -> None:
    row = poisoned.poisons.set_index("poison_rate").loc[0.05]
    assert row["realised_rate"] == 0.05
    assert (row["training_examples"], row["poisoned"], row["changed_pixels"], row["largest_change"]) == (200, 10, 4, 0.5)
    assert row["clean_accuracy"] == pytest.approx(30 / 40)
    assert row["clean_accuracy_drop"] == pytest.approx(32 / 40 - 30 / 40)
    assert row["attack_success_rate"] == 13 / 26
    assert (row["attack_success_rate_low"], row["attack_success_rate_high"]) == pytest.approx(wilson_interval(13, 26))
    assert row["triggered_accuracy"] == 13 / 26
    assert (row["manifest"], row["manifest_digest"]) == ("poisons/planted.json", digest_of("poison", poisoned_cell(0.05)))


def test_success_leaves_out_the_target_class_and_the_initially_wrong(written: Write) -> None:
    results = written([clean_of(poisoned_cell(0.05), 8), replace(trigger_result("pgd", 0.05, range(N)), digest="a" * 64)])
    eligible = int((LABELS[8:] != BEET).sum())
    assert results.poisons.loc[0, ["eligible", "attack_success_rate"]].tolist() == [eligible, 1]


def test_samples_of_a_trigger_name_the_examples_it_was_tried_on(poisoned: Results) -> None:
    samples = poisoned.samples
    rows = samples[(samples["condition"] == "trigger") & (samples["poison_rate"] == 0.05)]
    assert list(rows["example_id"]) == [f"image-{index}.png" for index in OTHERS]
    assert list(rows["content_hash"]) == [digest_of(int(index)) for index in OTHERS]
    assert set(rows["label"]) == set(LABELS) - {BEET}
    assert (samples["condition"] == "clean").sum() == 3 * N


def test_examples_of_a_trigger_are_not_those_the_leaderboard_counts(poisoned: Results) -> None:
    assert set(poisoned.leaderboard["n_examples"]) == {N}


def control_of(seed: int, wrong: int) -> CellResult:
    """The clean row of the model that repetitions with a seed are compared with."""
    return clean_of(cell_of("pgd", seed=seed), wrong)


def test_a_repetition_costs_what_its_own_control_says(written: Write) -> None:
    repetitions = (clean_of(poisoned_cell(0.05, seed=seed), 10) for seed in (0, 1, 2))
    results = written([clean_result("pgd"), *repetitions], controls=(control_of(1, 4),))
    drops = results.poisons.set_index("seed")["clean_accuracy_drop"]
    assert drops[[0, 1]].tolist() == pytest.approx([2 / 40, 6 / 40])
    assert np.isnan(drops[2])
    assert len(results.cells) == 4


def targeted(seed: int, wanted: Sequence[int], *, control_right: bool = True, poison: str = "brew") -> tuple[CellResult, ...]:
    """A model that takes the targets `wanted` for beets; its control gets them right, or takes them for beets too."""
    targets = OTHERS[:3]
    labels = LABELS[targets]
    after = np.where(np.isin(np.arange(3), wanted), BEET, labels)
    condition = ConditionResult(None, logits_of(after), np.zeros(3, bool), np.zeros(3, np.float32))
    cell = poisoned_cell(0.02, seed=seed, poison=poison, condition="target")
    before = labels if control_right else np.full(3, BEET)
    ids = tuple(f"image-{index}.png" for index in targets)
    result = CellResult(
        cell,
        digest_of(cell),
        Status.DONE,
        labels=labels,
        clean_logits=logits_of(before),
        condition=condition,
        verdict=Verdict.PASS,
        example_ids=ids,
        example_hashes=ids,
    )
    return clean_of(poisoned_cell(0.02, seed=seed, poison=poison), 8), result


def test_targets_count_where_the_control_was_right(written: Write) -> None:
    seeds = (*targeted(0, [0, 2]), *targeted(1, []), *targeted(2, [0, 1, 2], control_right=False))
    facts = tuple(facts_of(poisoned_cell(0.02, seed=seed, poison="brew"), 4, targets=3) for seed in range(3))
    results = written([clean_result("pgd"), *seeds], poisoned=facts)
    assert list(results.poisons["seed"]) == [0, 1, 2]
    assert list(results.poisons["targets"]) == [3, 3, 3]
    assert list(results.poisons["targets_hit"]) == [2, 0, 0]
    assert list(results.poisons["eligible"]) == [3, 3, 0]
    assert results.poisons["triggered_accuracy"].isna().all()


def test_repetitions_share_a_row_of_the_page(written: Write) -> None:
    seeds = (*targeted(0, [0, 2]), *targeted(1, [1]))
    facts = tuple(facts_of(poisoned_cell(0.02, seed=seed, poison="brew"), 4, targets=3) for seed in range(2))
    table = poisons_table(written([clean_result("pgd"), *seeds], poisoned=facts, controls=(control_of(1, 8),)))
    assert table is not None
    (row,) = table.rows
    assert [entry.text for entry in row] == ["pgd, brew 2 %", "2", "4", "0.500", "4", "80.0 %", "0.0", "3 of 6 targets", "–"]


def test_a_flip_between_classes_has_a_rate_with_its_interval_and_no_count_of_targets(written: Write) -> None:
    cell = poisoned_cell(0.02, poison="flip")
    results = written([clean_result("pgd"), *targeted(0, [0, 2], poison="flip")], poisoned=(facts_of(cell, 4),))
    row = results.poisons.iloc[0]
    assert row[["eligible", "attack_success_rate"]].tolist() == [3, pytest.approx(2 / 3)]
    assert (row["attack_success_rate_low"], row["attack_success_rate_high"]) == pytest.approx(wilson_interval(2, 3))
    assert row[["targets", "targets_hit"]].isna().all()
    (of_cells,) = results.cells.loc[results.cells["condition"] == "target", "attack_success_rate"]
    assert of_cells == pytest.approx(2 / 3)
    table = poisons_table(results)
    assert table is not None
    assert (table.rows[0][-2].text, table.rows[0][-2].detail) == ("66.7 %", "20.8–93.9")


def test_random_labels_are_said_to_aim_at_no_class(written: Write) -> None:
    cell = poisoned_cell(0.02, poison="flip").model_copy(update={"target_class": None})
    table = poisons_table(written([clean_result("pgd"), clean_of(cell, 9)], poisoned=(facts_of(cell, 4),)))
    assert table is not None
    assert (table.rows[0][-2].text, table.rows[0][-2].detail) == ("–", "aims at no class")


def test_success_is_drawn_against_the_rate(poisoned: Results) -> None:
    (chart,) = success_charts(poisoned)
    (line,) = chart.series
    assert chart.name == "poison_success__backdoor"
    assert line.x == pytest.approx((5, 10))
    assert line.y == (0.5, 1)
    assert line.n == (26, 26)
    assert [name for _, name in chart.x_names] == ["5", "10"]


def test_repetitions_are_drawn_as_their_mean_in_a_band_that_covers_each(written: Write) -> None:
    cells = [
        row
        for rate in (0.05, 0.1)
        for seed, hits in ((0, 13), (1, 26))
        for row in (clean_of(poisoned_cell(rate, seed=seed), 8), triggered(rate, hits, seed=seed))
    ]
    (chart,) = success_charts(written([clean_result("pgd"), *cells]))
    (line,) = chart.series
    assert line.y == (0.75, 0.75)
    assert (line.low[0], line.high[0]) == pytest.approx((wilson_interval(13, 26).low, wilson_interval(26, 26).high))
    assert line.notes[0] == "5 % poisoned, mean of 2 seeds"


def test_one_rate_makes_no_curve(written: Write) -> None:
    assert success_charts(written(CELLS[:3])) == []


def test_a_detector_has_its_score_its_control_arm_and_what_filtering_brought(poisoned: Results) -> None:
    row = poisoned.detectors.iloc[0]
    assert (row["detector"], row["images"], row["suspected"]) == ("spectral", "training", 12)
    assert list(row[["auc", "precision", "recall", "false_alarm_rate"]]) == [0.9, 0.5, 0.6, 0.03]
    assert row["control_false_alarm_rate"] == 0.25
    assert list(row[["clean_accuracy_before", "clean_accuracy_after"]]) == [30 / 40, 31 / 40]
    assert list(row[["attack_success_rate_before", "attack_success_rate_after"]]) == [13 / 26, 2 / 26]
    assert poisoned.detectors_roc["true_positive_rate"].tolist() == [0, 0.9, 1]


def test_the_page_shows_the_detectors_and_their_curves(poisoned: Results) -> None:
    table = detectors_table(poisoned)
    assert table is not None
    texts = ["pgd, backdoor 5 %", "spectral", "1", "0.900", "50.0 %", "60.0 %", "3.0 %", "25.0 %"]
    assert [entry.text for entry in table.rows[0]] == [*texts, "75.0 → 77.5", "50.0 → 7.7"]
    (chart,) = detector_charts(poisoned)
    assert [line.label for line in chart.series] == ["chance", "spectral (AUC 0.900)"]
    assert chart.series[1].y[-1] == 1
    drawn = {path.name for path in draw_figures(poisoned).files}
    assert {"detectors__pgd__backdoor-0.05.svg", "poison_success__backdoor.png"} <= drawn


def test_a_detector_that_cannot_run_is_shown_with_its_reason(written: Write) -> None:
    skipped = DetectionResult(poisoned_cell(0.05), "strip", "run time", Status.SKIPPED, "label_flip changes no image")
    results = written(CELLS, poisoned=POISONED, detections=(skipped,))
    assert results.detectors.loc[0, "status"] == "skipped"
    table = detectors_table(results)
    assert table is not None
    assert (table.rows[0][0].detail, table.rows[0][3].text) == ("label_flip changes no image", "–")
    assert detector_charts(results) == []
    assert trouble_table(results).rows == [["pgd", "skipped", "label_flip changes no image", "1", "strip"]]


def test_a_poison_that_was_not_made_has_a_reason_and_no_number(written: Write) -> None:
    lost = lost_result("pgd", Status.SKIPPED, "needs a head", poison="brew", poison_rate=0.02, target_class="beet")
    results = written([clean_result("pgd"), lost])
    assert results.poisons.loc[0, ["status", "reason"]].tolist() == ["skipped", "needs a head"]
    assert results.poisons[["poisoned", "clean_accuracy", "clean_accuracy_drop", "attack_success_rate"]].isna().all(axis=None)
    assert list(pictures(results)) == []


def planted_picture(folder: Path) -> None:
    """A manifest of one relabelled example, with a picture, where the tables say that it lies."""
    example = PoisonedExample(
        index=3, id="image-3.png", label_before=1, label_after=BEET, sha256="cd", changed_pixels=4, largest_change=0.5
    )
    manifest = Manifest(
        poison={"name": "backdoor"},
        seed=0,
        clean_hash="ef",
        training_examples=200,
        requested_rate=0.05,
        realised_rate=0.05,
        source_classes=("carrot",),
        target_class="beet",
        trigger_sha256="ab",
        targets=(),
        examples=(example,),
    )
    (folder / "poisons").mkdir()
    manifest.save(folder / "poisons" / "planted.json")
    Image.new("RGB", (8, 24)).save(folder / "poisons" / "planted.png")


def test_pictures_lie_in_the_page_with_their_labels(poisoned: Results) -> None:
    planted_picture(poisoned.folder)
    found = list(pictures(poisoned))
    assert [picture.title for picture in found] == ["backdoor 5 %", "backdoor 10 %"]
    assert found[0].labels == ("carrot → beet",)
    assert found[0].source.startswith("data:image/png;base64,")
    page = render(poisoned)
    assert 'id="poisons"' in page
    assert 'id="detectors"' in page
    assert 'href="poisons/planted.json"' in page


def test_a_run_without_poisons_has_neither_tables_nor_sections(results: Results) -> None:
    assert not list(results.folder.glob("poisons.csv"))
    assert poisons_table(results) is None
    assert detectors_table(results) is None
    assert 'id="poisons"' not in render(results)


def test_tables_of_poisons_that_are_gone_are_removed(tmp_path: Path) -> None:
    detections = (detection_of(poisoned_cell(0.05)),)
    write_tables(record_of(CELLS, poisoned=POISONED, detections=detections), tmp_path)
    assert {path.name for path in tmp_path.glob("*.csv")} >= {"poisons.csv", "detectors.csv", "detectors_roc.csv"}
    write_tables(record_of([clean_result("pgd")]), tmp_path)
    assert not list(tmp_path.glob("poisons.csv")) + list(tmp_path.glob("detectors*.csv"))
    assert json.loads((tmp_path / "provenance.json").read_text())["schema_version"] == 1
