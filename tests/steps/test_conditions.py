"""What is scored besides clean and attacked images."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.evaluation import clean as clean_scores
from harness.records.evidence import NetworkEvidence
from harness.steps.base import Step
from harness.steps.conditions import Corrupted, Trigger
from harness.steps.evaluate import Evaluate
from harness.steps.judgement import OUTCOME
from harness.storage.outcomes import load_outcome
from harness.system.progress import Advance, Silent
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


class Titles:
    """A progress display that keeps what is scored."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def task(self, title: str, total: float, unit: str = "") -> AbstractContextManager[Advance]:
        self.found.append(f"{title} ({unit})")
        return Silent().task(title, total)


@pytest.mark.parametrize("kind", [Corrupted, Trigger, Evaluate])
def test_progress_names_the_condition_that_is_scored(kind: type[Step], deployed: Deployed, tmp_path: Path) -> None:
    step, shown = steps_of(deployed, kind)[0], Titles()
    step.run(replace(deployed.bench().context, progress=shown), tmp_path)
    assert all(title.endswith("(images)") for title in shown.found)
    if isinstance(step, Evaluate):
        assert shown.found == ["clean images (images)"]
    else:
        assert all(step.label in title and "clean" not in title for title in shown.found)
        assert len(set(shown.found)) == len(shown.found) > 1


def test_corruption_has_one_condition_a_severity(deployed: Deployed, tmp_path: Path) -> None:
    steps_of(deployed, Corrupted)[0].run(deployed.bench().context, tmp_path)
    outcome = load_outcome(tmp_path / OUTCOME)
    assert len(outcome.conditions) == 3
    assert all(condition.logits.shape == (60, 10) and not condition.is_adversarial.any() for condition in outcome.conditions)
