"""What a run stored about poisons and detectors, as records, copied manifests and pictures."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.conditions import CLEAN
from harness.planning.plan import PlannedDetection
from harness.poisoning.poisoned import MANIFEST, example_pairs
from harness.records import FINISHED, Cell, DetectionResult, PoisonedSet, Status
from harness.reports.files import staged
from harness.reports.names import poison_name
from harness.reports.page.poisons import EXAMPLES
from harness.running.finished import FinishedRun
from harness.steps.base import Context
from harness.steps.pictures import picture_of
from harness.steps.poison import Poisoning

FOLDER = "poisons"
"""Subfolder of the results that manifests and example images lie in."""


def poisoned_sets(run: FinishedRun) -> tuple[PoisonedSet, ...]:
    """Returns what was poisoned for each poisoned model whose data were made and are whole."""
    return tuple(_poisoned_set(cell, poisoning, run.context) for cell, poisoning in _poisonings(run))


def detection_results(run: FinishedRun) -> tuple[DetectionResult, ...]:
    """Returns what each detector said of each poisoned model that it looked at."""
    return tuple(_detection_result(detection, run) for detection in run.plan.detections)


def write_poisons(run: FinishedRun, folder: Path) -> None:
    """Writes a copy of every manifest and a picture of some poisoned examples into the results folder.

    Raises:
        HarnessError: if the folder cannot be written.
    """
    with staged(folder, owned={FOLDER: (".json", ".png")}) as staging:
        (staging / FOLDER).mkdir()
        for name, poisoning in {poison_name(cell.model_dump()): step for cell, step in _poisonings(run)}.items():
            shutil.copyfile(run.context.folder(poisoning) / MANIFEST, staging / FOLDER / f"{name}.json")
            pairs = example_pairs(run.context.data, poisoning.load(run.context), EXAMPLES)
            picture_of([(pair.clean, pair.poisoned) for pair in pairs]).save(staging / FOLDER / f"{name}.png")


def _poisonings(run: FinishedRun) -> Iterator[tuple[Cell, Poisoning]]:
    """Yields the clean row of every poisoned model whose data were made and are whole, with the step that made them."""
    poisonings = {
        (variant.model, variant.poison, variant.rate, run.plan.suite.seed_of(variant)): step.poison
        for variant, step in run.plan.training.items()
    }
    for cell in (planned.cell for planned in run.plan.cells if planned.cell.condition == CLEAN):
        poisoning = poisonings.get((cell.model, cell.poison, cell.poison_rate, cell.seed))
        if poisoning is not None and run.finished(poisoning):
            yield cell, poisoning


def _poisoned_set(cell: Cell, poisoning: Poisoning, context: Context) -> PoisonedSet:
    manifest = poisoning.manifest(context)
    return PoisonedSet(
        cell,
        manifest=f"{FOLDER}/{poison_name(cell.model_dump())}.json",
        digest=poisoning.digest,
        training_examples=manifest.training_examples,
        poisoned=len(manifest.examples),
        largest_change=manifest.largest_change,
        changed_pixels=max(example.changed_pixels for example in manifest.examples),
        trigger_sha256=manifest.trigger_sha256,
        targets=len(manifest.targets) or None,
    )


def _detection_result(planned: PlannedDetection, run: FinishedRun) -> DetectionResult:
    result = DetectionResult(
        cell=planned.cell,
        detector=planned.label,
        images="run time" if planned.detector.RUN_TIME else "training",
        status=Status.SKIPPED,
        reason=planned.skip or "",
    )
    if planned.step is None or planned.control is None:
        return result
    after = tuple(map(run.result, planned.after))
    of_steps = [run.report(step) for step in (planned.step, planned.control)]
    states = [(step.status, step.reason) for step in of_steps] + [(cell.status, cell.reason) for cell in after]
    lost = next((state for state in states if state[0] not in FINISHED), None)
    status, reason = lost or (Status.DONE if (Status.DONE, "") in states else Status.CACHED, "")
    scores = [
        step.score(run.context).model_dump(mode="json") if state.status in FINISHED else None
        for step, state in zip((planned.step, planned.control), of_steps, strict=True)
    ]
    return replace(
        result, status=status, reason=reason, digest=planned.step.digest, score=scores[0], control=scores[1], after=after
    )
