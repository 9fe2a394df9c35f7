"""What may ship: one line a model, with what it rests on and what was not assessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from harness.conditions import ATTACK, CLEAN
from harness.reports.decision.requirements import Finding, Requirement, judge_requirements
from harness.reports.load import Results, once
from harness.reports.names import eps_text, is_missing, model_labels
from harness.reports.rows import rows_of
from harness.storage.store import sha256_of_file

MODELS_FOLDER = "models"
"""Folder of exported files below a results folder."""
NO_REQUIREMENT = "no requirement names it"
POISONED = "trained on data that were poisoned on purpose, to measure what a poison does; it never ships"
NOT_ASSESSED = (
    "adaptive attacks: written against this very model and its preprocessing",
    "attacks outside the norms and budgets named here, and attacks that no bound of pixels describes: patches, stickers, "
    "rotations and other spatial transformations",
    "physical attacks: printed, filmed or shown to the camera",
    "inputs of no class: out-of-distribution images, and whether the model knows that it does not know",
    "poisoning or backdoors in training data of unknown origin, pretrained weights included",
    "model extraction: copying the model through its answers",
    "privacy: membership inference, reconstruction of training images",
    "evasion of what surrounds the model: decoding, cropping, tracking, people",
    "fairness across groups that are no classes of the data set",
    "drift after deployment, and availability: inputs made to slow it down",
)
"""What no part of the harness measures, whatever the suite."""


class Verdict(StrEnum):
    """Whether a model may ship, by the suite's requirements."""

    SHIP = "SHIP"
    DO_NOT_SHIP = "DO NOT SHIP"
    NOT_SHOWN = "NOT SHOWN"
    NONE = "NO REQUIREMENT"


@dataclass(frozen=True)
class JudgedFile:
    """A file of a model with the hash of its content."""

    name: str
    sha256: str
    what: str
    """What it is: the weights that were judged, a file exported from them, or the step that trained them."""


@dataclass(frozen=True)
class WorstClass:
    """The class on which a model does worst."""

    name: str
    condition: str
    metric: str
    value: float
    examples: int


@dataclass(frozen=True)
class ModelDecision:
    """Whether one model may ship, and why."""

    model: str
    """The model's name in tables and pages."""
    verdict: Verdict
    why: str
    poisoned: bool = False
    """Whether it was trained on poisoned data."""
    files: tuple[JudgedFile, ...] = ()
    strength: tuple[str, ...] = ()
    """One sentence for each norm and budget: how strong the attacks on it were."""
    worst_classes: tuple[WorstClass, ...] = ()
    cost: str = ""
    requirements: tuple[Requirement, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class Decision:
    """The decision of a run."""

    suite: str
    threat_model: str
    models: tuple[ModelDecision, ...]
    requirements: tuple[Requirement, ...] = ()
    """Those of every model."""
    not_assessed: tuple[str, ...] = NOT_ASSESSED

    @property
    def all_met(self) -> bool:
        """Whether every requirement is met, so that every model that has one may ship."""
        return all(it.outcome is Finding.MET for it in self.requirements)


@once
def decision_of(results: Results) -> Decision:
    """Returns the decision of a run, from its tables alone.

    Raises:
        HarnessError: if a table is damaged.
    """
    found = judge_requirements(results)
    cells = results.cells
    board: dict[str, Mapping[Any, Any]] = {}
    for label, row in zip(model_labels(results.leaderboard), rows_of(results.leaderboard), strict=True):
        board.setdefault(label, row)
    groups = cells.groupby(model_labels(cells), sort=False)
    models = tuple(_model(results, str(label), rows_of(rows), found, board=board.get(str(label), {})) for label, rows in groups)
    return Decision(results.suite_name, threat_in_words(cells), models, found)


def _model(
    results: Results,
    label: str,
    rows: "Sequence[Mapping[Any, Any]]",
    found: tuple[Requirement, ...],
    *,
    board: Mapping[Any, Any],
) -> ModelDecision:
    """Returns the decision of one model; what is required of its poisoned trainings counts for the clean one.

    Args:
        results: The tables of the run.
        label: The model's name.
        rows: Its rows of cells.csv.
        found: The requirements of all models.
        board: Its row of leaderboard.csv; empty where it has none.
    """
    poisoned = any(not is_missing(row["poison"]) for row in rows)
    own = () if poisoned else tuple(it for it in found if it.model == rows[0]["model"])
    verdict, why = (Verdict.NONE, POISONED) if poisoned else _verdict(own)
    return ModelDecision(
        model=label,
        verdict=verdict,
        why=why,
        poisoned=poisoned,
        files=_files(results, label, rows[0]),
        strength=tuple(_strengths(rows)),
        worst_classes=tuple(_worst_classes(results, rows, board)),
        cost=_cost(board),
        requirements=own,
    )


def _verdict(found: tuple[Requirement, ...]) -> tuple[Verdict, str]:
    if not found:
        return Verdict.NONE, NO_REQUIREMENT
    for outcome, verdict in ((Finding.NOT_MET, Verdict.DO_NOT_SHIP), (Finding.NOT_SHOWN, Verdict.NOT_SHOWN)):
        if hits := [it for it in found if it.outcome is outcome]:
            others = f"; and {len(hits) - 1} more" if len(hits) > 1 else ""
            return verdict, f"{hits[0].text}: {outcome}: {hits[0].reason}{others}"
    met = "its requirement is" if len(found) == 1 else f"all {len(found)} requirements are"
    return Verdict.SHIP, f"{met} met by the interval's wrong end"


def threat_in_words(cells: pd.DataFrame) -> str:
    """Returns what the attackers of a run know, may change and aim at."""
    attacked = cells[(cells["condition"] == ATTACK) & cells["accuracy"].notna()]
    if attacked.empty:
        return "No attacker was measured: only images as they are, or changed by chance."
    parts = []
    for norm, rows in attacked.groupby("norm", sort=False):
        budgets = ", ".join(eps_text(float(eps)) for eps in sorted(rows["eps"].dropna().unique()))
        parts.append(f"{norm} by at most {budgets}")
    aims = attacked["targeted"].fillna(value=False)
    targets = sorted(attacked.loc[aims.astype(bool), "target_class"].dropna().unique())
    aim = "any wrong class" if not targets else f"any wrong class, or {', '.join(targets)}"
    return (
        "The attacker knows the network and its weights, and changes every pixel of one image at prediction time, in "
        f"{' or '.join(parts)} (pixels from 0 to 1), to reach {aim}."
    )


def _strengths(cells: "Sequence[Mapping[Any, Any]]") -> "list[str]":
    """Returns a sentence for each norm and budget: which attacks, and whether one of them is conclusive."""
    groups: dict[tuple[str, float], list[Mapping[Any, Any]]] = {}
    for row in cells:
        if row["condition"] == ATTACK and not is_missing(row["robust_accuracy"]) and not is_missing(row["eps"]):
            groups.setdefault((str(row["norm"]), float(row["eps"])), []).append(row)
    sentences = []
    for (norm, eps), rows in sorted(groups.items()):
        names = ", ".join(dict.fromkeys(row["attack"] for row in rows))
        strong = [row for row in rows if not is_missing(row["conclusive"]) and row["conclusive"] and row["verdict"] != "INVALID"]
        said = _strong(strong) if strong else "no strong attack: an upper bound, a stronger one may leave less"
        sentences.append(f"{norm} eps {eps_text(eps)}: {names}; {said}")
    return sentences


def _strong(rows: "Sequence[Mapping[Any, Any]]") -> str:
    row = min(rows, key=lambda it: float(it["robust_accuracy"]))
    if is_missing(row["audit_n"]):
        return f"{row['attack']} is conclusive: AutoAttack standard with the original's budgets"
    left = int(row["audit_n"])
    audit = f"AutoAttack standard succeeded on none of {left} examples that it left" if left else "it left no example"
    return f"{row['attack']} is conclusive: {audit}"


def _worst_classes(results: Results, rows: "Sequence[Mapping[Any, Any]]", board: Mapping[Any, Any]) -> "list[WorstClass]":
    """Returns the class of lowest recall on clean images, and of lowest robust accuracy under the strongest attack."""
    at = [row for row in rows if row["attack"] == board.get("strongest_attack") and row["eps"] == board.get("eps")]
    places = [([row for row in rows if row["condition"] == CLEAN], "recall", "clean images")]
    if not is_missing(board.get("eps")):
        places.append((at, "robust_accuracy", f"{board.get('strongest_attack')} at {board['norm']} eps {eps_text(board['eps'])}"))
    found = []
    for cells, metric, condition in places:
        classes = rows_of(results.classes_of([row["digest"] for row in cells])[["class", "support", metric]])
        classes = [row for row in classes if row["support"] > 0 and not is_missing(row[metric])]
        if classes:
            row = min(classes, key=lambda it: (float(it[metric]), -int(it["support"])))  # as in leaderboard.csv
            found.append(WorstClass(str(row["class"]), condition, metric, float(row[metric]), int(row["support"])))
    return found


def _cost(board: Mapping[Any, Any]) -> str:
    """Returns what all attacks on a model cost."""
    if not board or is_missing(board.get("forwards_per_example")):
        return "no attack ran"
    passes = f"{board['forwards_per_example']:,.0f} forward and {board['backwards_per_example']:,.0f} backward passes an example"
    return f"{passes}, {board['attack_seconds']:,.1f} s of attacks"


def _files(results: Results, label: str, row: Mapping[Any, Any]) -> tuple[JudgedFile, ...]:
    """Returns the weights that were judged, by their hash or the step that trained them, and the files exported from them."""
    judged = results.provenance.get("models") or {}
    known = judged.get(label) if isinstance(judged, Mapping) else None
    files: list[JudgedFile] = []
    if isinstance(known, Mapping) and known.get("sha256"):
        files.append(JudgedFile(str(known.get("file", "")), str(known["sha256"]), "the weights that were judged"))
    else:
        trained = _digests(results).get(f"train {label}")
        files += [] if trained is None else [JudgedFile("training step", trained, "digest of the step that trained it")]
    return (*files, *_exported(results.folder / MODELS_FOLDER, _file_name(row)))


@once
def _digests(results: Results) -> Mapping[str, str]:
    """Returns title -> digest of the steps of a run."""
    return {title: digest for digest, title in (results.provenance.get("steps") or {}).items()}


def _file_name(row: Mapping[Any, Any]) -> str:
    """Returns the name that `harness export` gives a model's files, without the ending."""
    return str(row["model"]) if is_missing(row["poison"]) else f"{row['model']}@{row['poison']}@{row['poison_rate']:g}"


def _exported(folder: Path, name: str) -> "list[JudgedFile]":
    paths = sorted(path for path in folder.glob(f"{name}.*") if path.is_file())
    return [JudgedFile(f"{MODELS_FOLDER}/{path.name}", sha256_of_file(path), "a file exported from it") for path in paths]
