"""The audit of a cheap ensemble: AutoAttack standard attacks a random sample of the examples on which it had no success."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.attacks.base import ATTACKS, Attack
from harness.evaluation.batches import load
from harness.evaluation.meter import Meter
from harness.images import ImageSplit
from harness.records.evidence import AuditEvidence, Evidence
from harness.system.progress import Progress
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    from harness.evaluation.run import SweepRun


def standard() -> Attack:
    """Returns AutoAttack standard, with the original's budgets."""
    return ATTACKS.parse("strong")


def audit(run: SweepRun, split: ImageSplit, progress: Progress) -> None:
    """Audits the ensemble at every budget that it is to be audited at, smallest first.

    All stages of AutoAttack standard, with the original's budgets, attack a random sample of the examples without success. A
    stage that succeeds on any of them is run on all examples without success, and a sample is audited again, until the standard
    succeeds on none. Then the share of the examples that it would still succeed on has an upper confidence bound, see
    `harness.metrics.audit_bound`. At worst all stages are run on all examples, and the result is AutoAttack standard's.

    Args:
        run: The sweep, once the ensemble is through.
        split: The examples.
        progress: Where to show progress: examples that a stage is run on, more than foreseen where the ensemble escalates.

    Source: the standard is Croce and Hein 2020, https://arxiv.org/abs/2003.01690, section 6.
    """
    clean, settings = run.ledger.clean_logits, run.settings
    samples = {level: settings.sample_of_audit(level) for level in range(len(settings.threat_models))}
    if clean is None or not any(samples.values()):
        return
    stages = standard().stages(clean.shape[1])
    foreseen = sum(min(size, len(run.ledger.active(level))) for level, size in samples.items())
    with progress.task(f"{settings.attack.name}, audit", foreseen * len(stages), unit="images x stages") as advance:
        meter = Meter(advance)
        for level, size in samples.items():
            if size:
                found = _LevelAudit(replace(run, meter=meter), split, level, stages, meter.settle).evidence(size)
                run.ledger.accounts[level].evidence += Evidence(audit=found)


class _LevelAudit:
    """The audit at one budget.

    Args:
        run: The sweep.
        split: The examples.
        level: Position of the budget.
        stages: Those of AutoAttack standard.
        advance: Called with the number of examples that a stage was just run on.
    """

    def __init__(
        self, run: SweepRun, split: ImageSplit, level: int, stages: tuple[Attack, ...], advance: Callable[[int], None]
    ) -> None:
        self.run, self.split, self.level, self.stages, self.advance = run, split, level, stages, advance
        seed = seed_of(run.settings.seed, "audit", run.settings.threat_models[level].eps)
        self.order = np.random.default_rng(seed).permutation(len(split))
        self.attacked = {stage.name: np.zeros(len(split), dtype=bool) for stage in stages}
        self.batches = 0

    def evidence(self, size: int) -> AuditEvidence:
        """Audits samples of that size, and returns what became of them."""
        broken, escalated = 0, list[str]()
        while True:
            sample = self._sample(size)
            found = {stage.name: self._attack(stage, sample) for stage in self.stages}
            broken += sum(found.values())
            if not any(found.values()):
                return AuditEvidence(len(self._survivors()), self._audited(sample), broken, tuple(escalated))
            for stage in self.stages:
                if found[stage.name]:
                    self._attack(stage, self._survivors())
                    escalated.append(stage.name)

    def _survivors(self) -> list[int]:
        """Returns the examples without success, in the order in which they are drawn."""
        active = np.isin(self.order, self.run.ledger.active(self.level))
        return [int(index) for index in self.order[active]]

    def _sample(self, size: int) -> list[int]:
        return self._survivors()[:size]

    def _audited(self, sample: list[int]) -> int:
        """Returns the size of the sample; that of all examples without success, where the whole standard was run on each."""
        everywhere = np.logical_and.reduce(list(self.attacked.values()))
        survivors = self._survivors()
        return len(survivors) if everywhere[survivors].all() else len(sample)

    def _attack(self, stage: Attack, chosen: list[int]) -> int:
        """Runs a stage on those of some examples that are without success and that it was not run on; returns its successes."""
        attacked, active = self.attacked[stage.name], set(self.run.ledger.active(self.level).tolist())
        rest = [index for index in chosen if index in active and not attacked[index]]
        attacked[rest] = True
        size = self.run.batch_size
        return sum(self._attack_batch(stage, rest[start : start + size]) for start in range(0, len(rest), size))

    def _attack_batch(self, stage: Attack, indices: list[int]) -> int:
        batch = load(self.split, indices, self.run.ledger.device)
        result = self.run.stage(self.level, stage, self.batches, batch, turn="audit")
        self.batches += 1
        self.run.note_later(self.level, batch, result)
        self.advance(len(indices))
        return int(result.is_adversarial.sum())
