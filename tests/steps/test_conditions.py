"""What is scored besides clean and attacked images."""

from pathlib import Path

import pytest

from harness.evaluation import clean as clean_scores
from harness.records.evidence import NetworkEvidence
from harness.steps.base import Step
from harness.steps.conditions import Corrupted, Trigger
from harness.steps.evaluate import Evaluate
from harness.steps.judgement import OUTCOME
from harness.storage.outcomes import load_outcome
from tests.deployed import Deployed


def steps_of(deployed: Deployed, kind: type[Step]) -> list[Step]:
    return [step for step in deployed.bench().plan.steps if isinstance(step, kind)]


def test_only_the_clean_score_probes_the_network(deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[int] = []
    monkeypatch.setattr(clean_scores, "probe_model", lambda *_, probes, **__: probed.append(probes) or NetworkEvidence())
    corrupted, trigger, clean = (steps_of(deployed, kind)[0] for kind in (Corrupted, Trigger, Evaluate))
    for step in (corrupted, trigger):
        step.run(deployed.bench().context, tmp_path)
    assert probed == []
    clean.run(deployed.bench().context, tmp_path)
    assert probed == [16]


def test_corruption_has_one_condition_a_severity(deployed: Deployed, tmp_path: Path) -> None:
    steps_of(deployed, Corrupted)[0].run(deployed.bench().context, tmp_path)
    outcome = load_outcome(tmp_path / OUTCOME)
    assert len(outcome.conditions) == 3
    assert all(condition.logits.shape == (60, 10) and not condition.is_adversarial.any() for condition in outcome.conditions)
