"""The audit of a cheap ensemble: AutoAttack standard attacks a random sample of the examples on which it had no success."""

from collections.abc import Callable

import numpy as np

from harness.attacks.audited import Audited
from harness.attacks.base import Attack
from harness.attacks.strong import Strong
from harness.evaluation.batches import load
from harness.evaluation.run import SweepRun
from harness.images import ImageSplit
from harness.records.evidence import AuditEvidence, Evidence
from harness.system.seeds import seed_of


def audit(run: SweepRun, split: ImageSplit, attack: Audited, *, advance: Callable[[int], None]) -> None:
    """Audits the ensemble at every budget, smallest first.

    All stages of AutoAttack standard, with the original's budgets, attack a random sample of the examples without success. A
    stage that succeeds on any of them is run on all examples without success, and a sample is audited again, until the standard
    succeeds on none. Then the share of the examples that it would still succeed on has an upper confidence bound, see
    `harness.metrics.audit_bound`. At worst all stages are run on all examples, and the result is AutoAttack standard's.

    Args:
        run: The sweep, once the ensemble is through.
        split: The examples.
        attack: The ensemble, with the size of the sample.
        advance: Called with the number of examples that a stage was just run on.

    Source: the standard is Croce and Hein 2020, https://arxiv.org/abs/2003.01690, section 6.
    """
    clean = run.ledger.clean_logits
    if clean is None:
        return
    stages = Strong().stages(clean.shape[1])
    for level in range(len(run.settings.threat_models)):
        found = _LevelAudit(run, split, level, stages, advance).evidence(attack.audit)
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
        return sum(self._attack_batch(stage, rest[start : start + self.run.batch_size]) for start in self._starts(rest))

    def _starts(self, rest: list[int]) -> range:
        return range(0, len(rest), self.run.batch_size)

    def _attack_batch(self, stage: Attack, indices: list[int]) -> int:
        batch = load(self.split, indices, self.run.ledger.device)
        result = self.run.stage(self.level, stage, self.batches, batch, turn="audit")
        self.batches += 1
        self.run.note_later(self.level, batch, result)
        self.advance(len(indices))
        return int(result.is_adversarial.sum())
