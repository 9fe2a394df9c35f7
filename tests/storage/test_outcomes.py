"""Outcomes are read as they were written, in this version and in the first one."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from harness.records import ConditionResult, Outcome
from harness.records.evidence import AuditEvidence, Evidence, NetworkEvidence, StageEvidence
from harness.storage.outcomes import load_outcome, save_outcome

COUNT = 12
PASSES = {"forwards": 40, "backwards": 30}


def _outcome(*evidence: Evidence) -> Outcome:
    logits = np.eye(3, dtype=np.float32)[np.arange(COUNT) % 3]
    conditions = tuple(
        ConditionResult(
            Fraction(number + 1, 255), logits, np.arange(COUNT) < number, np.zeros(COUNT, np.float32), 0.0, **PASSES, evidence=it
        )
        for number, it in enumerate(evidence)
    )
    return Outcome(np.arange(COUNT) % 3, logits, conditions, np.full(COUNT, np.inf, np.float32))


def _first_version(path: Path, outcome: Outcome, *findings: dict[str, float]) -> None:
    """Writes an outcome as it was written before evidence was typed."""
    tensors = {"labels": outcome.labels, "clean_logits": outcome.clean_logits, "smallest_eps": outcome.smallest_eps}
    rows = []
    for number, (condition, measured) in enumerate(zip(outcome.conditions, findings, strict=True)):
        tensors[f"{number}.logits"] = condition.logits
        tensors[f"{number}.fooled"] = condition.is_adversarial.astype(np.uint8)
        tensors[f"{number}.distance"] = condition.distance
        numbers = {"max_violation": 0.0, **PASSES, "seconds": 1.5, "peak_memory_mb": 100.0}
        rows.append({**numbers, "findings": measured, "eps": str(condition.eps)})
    save_file(tensors, path, metadata={"schema_version": "1", "conditions": json.dumps(rows)})


ATTACK = Evidence(
    access="ensemble",
    conclusive=False,
    shortfall="classes",
    margin=True,
    target_class=0,
    batch_size=32,
    compiled=True,
    bfloat16=False,
    attacked=7,
    **PASSES,
    gradients=123,
    zero_gradients=3,
    nonfinite_gradients=1,
    silent_successes=2,
    returned=6,
    nonfinite_images=5,
    doubled_steps_tried=8,
    doubled_steps_successes=3,
    violation=0.25,
    stages={"apgd-ce": StageEvidence(adversarial=2), "square": StageEvidence(adversarial=1)},
)
BISECTED = replace(ATTACK, skipped=6, skipped_tried=4, skipped_successes=1)
AUDITED = replace(
    ATTACK,
    stages={"pma": StageEvidence(36, 5, 700, 650, 1.5), "square": StageEvidence(10, 1, 50_030, 0, 4.25)},
    audit=AuditEvidence(survivors=30, sampled=9, broken=1, escalated=("square", "fab")),
)
CLEAN = Evidence(
    batch_size=16,
    **PASSES,
    network=NetworkEvidence(
        probed=11,
        unbounded_failures=4,
        probabilities=11,
        bounded=True,
        no_gradient=True,
        random_forward=0.125,
        batch_tried=16,
        batch_changed=3,
        batch_dependence=1e9,
        gradients_compared=6,
        gradients_wrong=1,
        gradients_flat=3,
    ),
)


def test_evidence_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = [ATTACK, CLEAN, Evidence(**PASSES), AUDITED, BISECTED]
    save_outcome(_outcome(*written), tmp_path / "outcome.safetensors")
    assert [it.evidence for it in load_outcome(tmp_path / "outcome.safetensors").conditions] == written
    with safe_open(tmp_path / "outcome.safetensors", framework="numpy") as file:
        assert file.metadata()["schema_version"] == "2"


def test_stages_that_were_written_as_numbers_are_read(tmp_path: Path) -> None:
    save_outcome(_outcome(ATTACK), tmp_path / "now.safetensors")
    with safe_open(tmp_path / "now.safetensors", framework="numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    rows = json.loads(metadata["conditions"])
    rows[0]["evidence"]["stages"] = {"apgd-ce": 2, "square": 1}
    save_file(tensors, tmp_path / "before.safetensors", metadata={**metadata, "conditions": json.dumps(rows)})
    assert load_outcome(tmp_path / "before.safetensors").conditions[0].evidence == ATTACK


def test_infinite_maximum_is_written_as_a_number(tmp_path: Path) -> None:
    evidence = replace(CLEAN, network=replace(CLEAN.network, random_forward=float("inf")))
    save_outcome(_outcome(evidence), tmp_path / "outcome.safetensors")
    (condition,) = load_outcome(tmp_path / "outcome.safetensors").conditions
    assert 1e300 < condition.evidence.network.random_forward < np.inf


def test_outcome_of_the_first_version_is_read(tmp_path: Path) -> None:
    attack = {
        "access": 4.0, "conclusive": 0.0, "margin": 1.0, "batch_size": 32.0, "shortfall": 1.0, "target_class": 0.0,
        "compiled": 1.0, "bfloat16": 0.0, "attacked": 7.0, "gradients": 123 / 7, "zero_gradient_share": 3 / 7,
        "nonfinite_gradient_share": 1 / 7, "silent_success_share": 2 / 7, "raw_violation": 0.25,
        "nonfinite_images_share": 5 / 6, "doubled_steps_tried": 8.0, "doubled_steps_broken": 3.0,
        "adversarial_by_stage_apgd-ce": 2.0, "adversarial_by_stage_square": 1.0,
    }  # fmt: skip
    clean = {
        "batch_size": 16.0, "probed": 11.0, "random_forward": 0.125, "probabilities": 1.0, "no_gradient": 1.0,
        "bounded_outputs": 1.0, "unbounded_survivors_share": 1 - float(np.float32(7 / 11)), "batch_dependence": 1e9,
        "batch_changes_share": 3 / 16, "wrong_gradient_share": float(np.float32(1 / 6)), "flat_gradient_share": 0.5,
    }  # fmt: skip
    outcome = _outcome(*[Evidence()] * 3)
    _first_version(tmp_path / "old.safetensors", outcome, attack, clean, {})
    found = load_outcome(tmp_path / "old.safetensors")
    first, second, nothing = (condition.evidence for condition in found.conditions)
    assert (first, nothing) == (ATTACK, Evidence(**PASSES))
    compared = second.network
    assert compared.gradients_wrong / compared.gradients_compared == pytest.approx(1 / 6)
    assert compared.gradients_flat / compared.gradients_compared == 0.5
    same = {name: getattr(CLEAN.network, name) for name in ("gradients_compared", "gradients_wrong", "gradients_flat")}
    assert replace(second, network=replace(compared, **same)) == CLEAN
    assert [it.eps for it in found.conditions] == [Fraction(1, 255), Fraction(2, 255), Fraction(3, 255)]
    assert (found.conditions[0].seconds, found.conditions[1].is_adversarial.sum()) == (1.5, 1)
    save_outcome(found, tmp_path / "new.safetensors")
    assert [it.evidence for it in load_outcome(tmp_path / "new.safetensors").conditions] == [first, second, nothing]


@pytest.mark.parametrize("share", [1 / 3, 0.5, 1.0, 2 / 7])
def test_share_whose_whole_was_not_stored_stays_the_same(tmp_path: Path, share: float) -> None:
    _first_version(tmp_path / "old.safetensors", _outcome(Evidence()), {"attacked": 40.0, "nonfinite_images_share": share})
    evidence = load_outcome(tmp_path / "old.safetensors").conditions[0].evidence
    assert evidence.nonfinite_images / evidence.returned == share
