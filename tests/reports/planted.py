"""A synthetic run whose numbers are planted: every test knows what each table must say."""

import hashlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from harness.records import Cell, CellResult, ConditionResult, Expectation, RunRecord, Status, Verdict

CLASSES = ("beet", "carrot", "null")
"""The last one is a trap: a reader that takes it for a missing value loses a class."""
N = 40
BUDGETS = (Fraction(2, 255), Fraction(4, 255), Fraction(8, 255))
LABELS = np.arange(N) % len(CLASSES)
WRONG_FROM_THE_START = {"baseline": 4, "pgd": 8}
ADVERSARIAL = {
    ("baseline", "fgsm"): (range(4, 14), range(4, 24), range(4, 30)),
    ("baseline", "pgd"): (range(4, 20), range(4, 34), range(4, 40)),
    ("pgd", "fgsm"): (range(8, 10), range(8, 14), range(8, 20)),
    ("pgd", "pgd"): (range(10, 13), range(10, 18), range(10, 26)),
}
"""Examples that are adversarial at each budget; under `pgd` those of fgsm and pgd overlap in part."""


def logits_of(predicted: np.ndarray) -> np.ndarray:
    """Logits (N, K) whose largest entry is the prediction, with a little variety for the ROC curves."""
    noise = np.random.default_rng(0).uniform(0, 0.5, (len(predicted), len(CLASSES)))
    return (noise + 2 * np.eye(len(CLASSES))[predicted]).astype(np.float32)


def predicted_with_errors(wrong: Sequence[int]) -> np.ndarray:
    predicted = LABELS.copy()
    predicted[list(wrong)] = (predicted[list(wrong)] + 1) % len(CLASSES)
    return predicted


def cell_of(model: str, **fields: object) -> Cell:
    return Cell(dataset="synthetic", model=model, arch="tiny", recipe="pgd" if model == "pgd" else "standard", **fields)


def digest_of(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def clean_result(model: str) -> CellResult:
    logits = logits_of(predicted_with_errors(range(WRONG_FROM_THE_START[model])))
    condition = ConditionResult(None, logits, np.zeros(N, bool), np.zeros(N, np.float32), forwards=N, seconds=0.5)
    return CellResult(
        cell_of(model), digest_of(model), Status.DONE, "", LABELS, logits, condition, np.full(N, np.inf, np.float32), Verdict.PASS
    )


def attack_results(model: str, attack: str, budgets: Sequence[Fraction] = BUDGETS, norm: str = "Linf") -> list[CellResult]:
    wrong = list(range(WRONG_FROM_THE_START[model]))
    clean_logits = logits_of(predicted_with_errors(wrong))
    smallest = np.full(N, np.inf, np.float32)
    for eps, examples in reversed(list(zip(budgets, ADVERSARIAL[model, attack], strict=True))):
        smallest[list(examples)] = float(eps)
    results = []
    for eps, examples in zip(budgets, ADVERSARIAL[model, attack], strict=True):
        is_adversarial = np.isin(np.arange(N), list(examples))
        logits = logits_of(predicted_with_errors([*wrong, *examples]))
        distance = np.where(np.arange(N) < len(wrong), 0, float(eps)).astype(np.float32)
        condition = ConditionResult(eps, logits, is_adversarial, distance, 0.0, forwards=10 * N, backwards=9 * N, seconds=2.0)
        cell = cell_of(
            model,
            condition="attack",
            attack=attack,
            norm=norm,
            eps=eps,
            alpha=float(eps) / 4,
            steps=10,
            restarts=1,
            protocol="nested",
        )
        single_step = attack == "fgsm"
        results.append(
            CellResult(
                cell,
                digest_of(model, attack, eps, norm),
                Status.CACHED,
                labels=LABELS,
                clean_logits=clean_logits,
                condition=condition,
                smallest_eps=smallest,
                verdict=Verdict.SUSPECT if single_step else Verdict.PASS,
                verdict_reasons=("single step: an upper bound",) if single_step else (),
            )
        )
    return results


def lost_result(model: str, status: Status, reason: str, **fields: object) -> CellResult:
    return CellResult(cell_of(model, **fields), digest_of(model, status, tuple(fields.items())), status, reason)


def corruption_result(model: str, corruption: str, severity: int, wrong: int, group: str = "weather") -> CellResult:
    clean = clean_result(model)
    logits = logits_of(predicted_with_errors(range(wrong)))
    condition = ConditionResult(None, logits, np.zeros(N, bool), np.zeros(N, np.float32), forwards=N, seconds=0.5)
    cell = cell_of(model, condition="corruption", corruption=corruption, corruption_group=group, severity=severity)
    digest = digest_of(model, corruption, severity)
    return CellResult(cell, digest, Status.DONE, "", LABELS, clean.clean_logits, condition, None, Verdict.PASS)


def trigger_result(model: str, rate: float, hits: Sequence[int], target: str = "beet") -> CellResult:
    """A backdoored model that answers `target` on the triggered examples `hits`, and is right on the others."""
    predicted = LABELS.copy()
    predicted[list(hits)] = CLASSES.index(target)
    clean_logits = logits_of(predicted_with_errors(range(WRONG_FROM_THE_START[model])))
    condition = ConditionResult(None, logits_of(predicted), np.zeros(N, bool), np.zeros(N, np.float32), forwards=N)
    cell = cell_of(model, condition="trigger", poison="backdoor", poison_rate=rate, target_class=target)
    return CellResult(cell, digest_of(model, rate), Status.DONE, "", LABELS, clean_logits, condition, None, Verdict.PASS)


HISTORIES = {
    model: tuple(
        {
            "epoch": epoch,
            "train_loss": 2.0 / epoch,
            "train_accuracy": 0.5 + 0.04 * epoch,
            "validation_accuracy": 0.45 + 0.04 * epoch,
        }
        | ({"validation_robust_accuracy": 0.1 * epoch} if model == "pgd" else {})
        for epoch in range(1, 7)
    )
    for model in ("baseline", "pgd")
}


TRAININGS = {
    "baseline": {"best_epoch": 5, "epochs": 6, "chosen_by": "validation_accuracy", "robust_overfitting": None, "warnings": []},
    "pgd": {
        "best_epoch": 4,
        "epochs": 6,
        "chosen_by": "validation_robust_accuracy",
        "robust_overfitting": 0.07,
        "warnings": ["robust overfitting: 7 points <less>", "collapsed: one class"],
    },
}


def grid() -> tuple[CellResult, ...]:
    return (
        *(clean_result(model) for model in ("baseline", "pgd")),
        *(result for model, attack in ADVERSARIAL for result in attack_results(model, attack)),
        lost_result(
            "pgd", Status.FAILED, "RuntimeError:\n out of memory", condition="attack", attack="square", norm="L2", eps="1/2"
        ),
        lost_result("pgd", Status.SKIPPED, "fgsm has no L1 form", condition="attack", attack="fgsm", norm="L1", eps=12),
    )


def record_of(cells: Sequence[CellResult], **fields: object) -> RunRecord:
    values = {
        "suite": {"name": "synthetic", "title": "A <planted> run", "description": "Every number is known beforehand."},
        "class_names": CLASSES,
        "example_ids": tuple(f"image-{index}.png" for index in range(N)),
        "example_hashes": tuple(digest_of(index) for index in range(N)),
        "histories": HISTORIES,
        "trainings": TRAININGS,
        "expectations": (
            Expectation("robust_accuracy of pgd under pgd at eps 4/255 is at least 0.5", True, "pgd: 0.600"),
            Expectation("clean_accuracy of pgd is at least 0.9", False, "pgd: 0.800"),
            Expectation("robust_accuracy of pgd under square at eps 1/2 is at least 0.1", None, "pgd: no number"),
        ),
        "provenance": {"git_commit": "0" * 40, "device": "cpu", "versions": {"torch": "2.0"}, "seconds": 12.5},
    }
    return RunRecord(cells=tuple(cells), **(values | fields))
