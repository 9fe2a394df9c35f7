"""Judges attacked images from a file: whether they are within the budget, and what the model of a run makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.bundle.attacked import AttackedFile, read_attacked
from harness.conditions import CLEAN
from harness.errors import DataError, HarnessError
from harness.reports.names import MODEL_COLUMNS, WORST_CASE, eps_text, is_missing, model_label, rate_text
from harness.reports.tables.best_known import IMAGE_COLUMNS
from harness.running.verification.best_known import TABLE, model_digest, with_images
from harness.running.verification.findings import Difference, Findings
from harness.storage.store import sha256_of_file
from harness.system.lazy import torch
from harness.system.messages import counted, shown
from harness.system.modes import evaluating
from harness.system.precision import full_float32
from harness.threat import TOLERANCE, ThreatModel

if TYPE_CHECKING:
    from harness.images import ImageSplit
    from harness.reports.load import Results
    from harness.running.workspace import Workbench

BATCH = 32
"""Images of a forward pass; no more are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model made of the images of a file, arrays (N,)."""

    places: NDArray[np.int64]
    """Positions of their originals among the evaluated examples."""
    predicted: NDArray[np.int64]
    distance: NDArray[np.float32]
    """In the norm of the file's budget."""


def verify_images(results: Results, path: Path, workbench: Workbench) -> Findings:
    """Judges the images of a file, and lowers the best known robust accuracy by those that the model misclassifies.

    All are refused where one lies outside the ball or [0,1], is not finite, or is of no evaluated example. What a run measured
    stays as it is. Where the file says what the model predicts, or which cell its images are of, that is compared.

    Args:
        results: The results folder; needs samples.parquet.
        path: The file, see `harness.bundle.attacked`.
        workbench: The plan of the folder's suite, with the store that holds its models.

    Raises:
        HarnessError: if the file cannot be used, or the model is not the one that was judged.
    """
    if not results.has_samples:
        raise HarnessError(
            f"{results.folder}: expected samples.parquet beside the tables, which says what was measured; found none"
        )
    file = read_attacked(path)
    suite, examples = workbench.plan.suite, workbench.plan.examples.of(workbench.context.data)
    variant = suite.variant(file.head.model)
    model = workbench.training(variant)
    fields = {"model": variant.model, "poison": variant.poison, "poison_rate": variant.rate, "seed": suite.seed_of(variant)}
    clean = _clean_row(model_label(fields), results)
    own = model_digest(results.provenance.get("models", {}), clean)
    if own != model.digest:
        raise HarnessError(f"{results.folder}: expected the model {model.digest[:12]} of the plan, found that {own} was judged")
    _expect_measured(results, model_label(fields), file)
    places = _places(file, examples)
    judged = _judge(file, examples, model.classifier(workbench.context), places, device=workbench.context.device)
    found = Findings(compared={path.name: len(file)})
    found.differences += _against_file(file, examples, judged)
    found.differences += _against_cell(file, examples, judged, results)
    correct = results.samples_of(str(clean["digest"])).query("clean_correct")["example_id"].astype(str)
    identity = {**{name: clean[name] for name in MODEL_COLUMNS}, "norm": file.head.norm.value, "model_digest": own}
    rows = _rows(identity, file, examples, judged, correct=set(correct))
    found.notes += _summary(file, rows, with_images(results, rows), model_label(fields))
    return found


def _clean_row(label: str, results: Results) -> dict[str, Any]:
    """Returns the clean row of a model."""
    for row in results.cells[results.cells["condition"] == CLEAN].to_dict("records"):
        if model_label(row) == label:
            return {str(name): value for name, value in row.items()}
    raise HarnessError(f"{results.folder}: expected a clean row of the model {label} in cells.csv, found none")


def _expect_measured(results: Results, label: str, file: AttackedFile) -> None:
    """Refuses images in a norm that the run did not attack the model in: there is nothing that they could lower."""
    worst = results.sweep[results.sweep["attack"] == WORST_CASE]
    norms = [row["norm"] for row in worst.to_dict("records") if model_label(row) == label]
    if file.head.norm.value not in norms:
        measured = ", ".join(dict.fromkeys(norms)) or "none"
        raise DataError(f"{file.path}: norm: expected one that {label} was attacked in ({measured}), got {file.head.norm.value}")


def _places(file: AttackedFile, examples: ImageSplit) -> NDArray[np.int64]:
    """Returns the position of each image's original, and refuses what is of no example, or of another class than it says."""
    found: dict[str, NDArray[np.int64]] = {}
    lists = {"content_hash": examples.hashes, "example_id": examples.ids, "index": range(len(examples))}
    for name, values in file.names.items():
        place_of: dict[Any, int] = {}
        for place, value in enumerate(lists[name]):
            place_of.setdefault(value, place)
        if unknown := [row for row, value in enumerate(values.tolist()) if value not in place_of]:
            row = unknown[0]
            raise DataError(
                f"{file.path}: {name}[{row}]: expected one of the {len(examples)} evaluated examples, got {shown(values[row])}"
            )
        found[name] = np.array([place_of[value] for value in values.tolist()], dtype=np.int64)
    places = found.get("example_id", next(iter(found.values())))
    hashes = np.array(list(examples.hashes), dtype=object)
    for name, others in found.items():
        if (wrong := np.flatnonzero(hashes[others] != hashes[places])).size:
            raise DataError(f"{file.path}: {name}[{wrong[0]}]: expected the example of {', '.join(found)} to be one, got two")
    if len(np.unique(places)) < len(places):
        twice = int(np.flatnonzero(np.bincount(places) > 1)[0])
        raise DataError(f"{file.path}: expected each example once, got {examples.ids[twice]} more often")
    labels = file.numbers.get("label")
    if labels is not None and (wrong := np.flatnonzero(labels != np.asarray(examples.labels)[places])).size:
        row = int(wrong[0])
        wanted = f"{examples.labels[places[row]]}, the class of {examples.ids[places[row]]}"
        raise DataError(f"{file.path}: label[{row}]: expected {wanted}, got {labels[row]}")
    return places


@full_float32()
def _judge(file: AttackedFile, examples: ImageSplit, model: Any, places: NDArray[np.int64], *, device: Any) -> Judged:
    """Runs the images through the model, a batch at a time, and refuses the file at the first that is out of bounds."""
    ball = ThreatModel(norm=file.head.norm, eps=file.head.eps)
    predicted, distance = np.zeros(len(file), np.int64), np.zeros(len(file), np.float32)
    expected = tuple(examples[int(places[0])][0].shape)
    if file.shape != expected:
        raise DataError(f"{file.path}: x: expected images of {expected}, as the model gets them, got {file.shape}")
    for rows, images in file.batches(BATCH):
        clean = torch.stack([examples[int(place)][0] for place in places[rows]])
        x = torch.from_numpy(images)
        violation = ball.violation(x, clean)
        if (wrong := (violation > TOLERANCE).nonzero().flatten()).numel():
            row = int(wrong[0])
            raise DataError(f"{file.path}: x[{rows.start + row}]: {_what_is_wrong(x[row], clean[row], ball)}")
        with evaluating(model), torch.no_grad():
            predicted[rows] = model(x.to(device)).argmax(dim=1).cpu().numpy()
        distance[rows] = ball.distance(x, clean).abs().numpy()  # an unchanged image has -0.0
    return Judged(places, predicted, distance)


def _what_is_wrong(x: Any, clean: Any, ball: ThreatModel) -> str:
    if not x.isfinite().all():
        return "expected finite values, got NaN or infinity"
    if x.min() < -TOLERANCE or x.max() > 1 + TOLERANCE:
        return f"expected values from 0 to 1, got {float(x.min()):.6g} to {float(x.max()):.6g}"
    far = float(ball.distance(x[None], clean[None])[0])
    return f"expected an image within {ball.norm} {eps_text(float(ball.eps))} of its original, got a distance of {far:.6g}"


def _against_file(file: AttackedFile, examples: ImageSplit, judged: Judged) -> list[Difference]:
    """Returns where the model does not predict what the file says."""
    said = file.numbers.get("prediction")
    if said is None:
        return []
    wrong = np.flatnonzero(said != judged.predicted)
    return [
        Difference(file.path.name, examples.ids[judged.places[row]], "prediction", str(said[row]), str(judged.predicted[row]))
        for row in wrong
    ]


def _against_cell(file: AttackedFile, examples: ImageSplit, judged: Judged, results: Results) -> list[Difference]:
    """Returns where images that are said to be those of a cell are not what samples.parquet says of its examples."""
    if file.head.digest is None:
        return []
    own = results.samples_of(file.head.digest)
    if own.empty:
        raise DataError(f"{file.path}: digest: expected a cell of {results.folder}, got {shown(file.head.digest[:12])}")
    of_example = {str(row["example_id"]): row for row in own.to_dict("records")}
    found = []
    for row, place in enumerate(judged.places):
        name = examples.ids[place]
        if name not in of_example:
            found.append(Difference("samples.parquet", f"{file.path.name}, {name}", "example_id", "no such example", "one"))
            continue
        wanted = {"prediction": judged.predicted[row], "distance": judged.distance[row]}
        found += [
            Difference("samples.parquet", f"{file.path.name}, {name}", column, str(of_example[name][column]), str(value))
            for column, value in wanted.items()
            if abs(float(of_example[name][column]) - float(value)) > TOLERANCE
        ]
    return found


def _rows(
    identity: dict[str, Any], file: AttackedFile, examples: ImageSplit, judged: Judged, *, correct: set[str]
) -> pd.DataFrame:
    """Returns the rows of best_known_images.csv: what the model gets wrong of what it gets right when clean."""
    rows, source = [], {"file": file.path.name, "file_sha256": sha256_of_file(file.path)}
    for row, place in enumerate(judged.places):
        name = examples.ids[place]
        if name in correct and judged.predicted[row] != examples.labels[place]:
            example = {"example_id": name, "content_hash": examples.hashes[place]}
            found = {"distance": float(judged.distance[row]), "prediction": int(judged.predicted[row])}
            rows.append({**identity, **example, **found, **source})
    return pd.DataFrame(rows, columns=list(IMAGE_COLUMNS))


def _summary(file: AttackedFile, rows: pd.DataFrame, table: pd.DataFrame, label: str) -> list[str]:
    budget = f"{file.head.norm} {eps_text(float(file.head.eps))}"
    lines = [f"{file.path.name}: {counted(len(file), 'image')} of {label} within {budget}, {len(rows)} of them adversarial"]
    for row in table.to_dict("records"):
        if model_label(row) == label and row["norm"] == file.head.norm.value and not is_missing(row["robust_accuracy"]):
            known, measured = rate_text(row["best_known_robust_accuracy"]), rate_text(row["robust_accuracy"])
            lines.append(f"{TABLE}: {label}, {row['norm']} {eps_text(row['eps'])}: best known {known} %, measured {measured} %")
    return lines
