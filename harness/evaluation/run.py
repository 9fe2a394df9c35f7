"""One sweep on one network, and the stages of its attack: each gets full batches of the examples that the ones before leave."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.attacks.ensemble import Ensemble
from harness.attacks.faults import GradientFaults
from harness.attacks.frame import run_attack, search_ball, within
from harness.attacks.results import AttackInput, AttackResult, NearestResult
from harness.evaluation.batches import SplitBatch
from harness.evaluation.ledger import Ledger
from harness.evaluation.settings import SweepSettings
from harness.records import CUMULATIVE
from harness.records.evidence import Evidence, StageEvidence
from harness.system.modes import ModuleLists
from harness.system.seeds import seed_of
from harness.threat import ThreatModel


@dataclass(frozen=True, eq=False)
class SweepRun:
    """One sweep on one network."""

    settings: SweepSettings
    model: nn.Module
    """The reference model: it alone decides what is a success."""
    form: nn.Module
    """The inference form: the copy that the attack differentiates."""
    held: ModuleLists
    """What `guarded` gives out for both."""
    ledger: Ledger
    batch_size: int
    clean_logits: NDArray[np.float32] | None
    """Logits (N, K) on the unperturbed images where they are known."""
    advance: Callable[[int], None]
    """Called with the number of examples x budgets that just got their result."""

    def eligible(self, batch: SplitBatch) -> Tensor:
        """Predicts on clean images and returns (n,) which are correct, and not of the wanted class already."""
        if self.clean_logits is None:
            with torch.no_grad():
                logits = self.model(batch.x).float()
        else:
            logits = torch.from_numpy(self.clean_logits[batch.indices.numpy()]).to(batch.x.device)
        self.ledger.clean(batch, logits)
        correct = logits.argmax(dim=1) == batch.y
        return correct if self.settings.target_class is None else correct & (batch.y != self.settings.target_class)

    def clean_margins(self, batch: SplitBatch) -> NDArray[np.float32]:
        """Returns (n,) by how much the true class leads on the unperturbed images: over the target class, or any other one."""
        rows = batch.indices.numpy()
        if self.ledger.clean_logits is None or not len(rows):
            return np.zeros(len(rows), dtype=np.float32)
        logits, labels = self.ledger.clean_logits[rows].copy(), self.ledger.labels[rows, None]
        own = np.take_along_axis(logits, labels, axis=1)[:, 0]
        np.put_along_axis(logits, labels, -np.inf, axis=1)
        return own - (logits.max(axis=1) if self.settings.target_class is None else logits[:, self.settings.target_class])

    def inputs(self, batch: SplitBatch) -> AttackInput:
        """Returns the network with the examples of a batch and the classes for its criterion."""
        classes = batch.y if self.settings.target_class is None else torch.full_like(batch.y, self.settings.target_class)
        return AttackInput(self.model, batch.x, classes, self.form, self.held)

    def attack(self, level: int, number: int, batch: SplitBatch) -> AttackResult:
        """Attacks the batch of that number at one budget."""
        threat_model = self.settings.threat_models[level]
        seed = batch_seed(self.settings.seed, self.settings.attack, threat_model, number)
        with self.ledger.timed(level) as account:
            result = run_attack(
                self.settings.attack,
                self.inputs(batch),
                threat_model=threat_model,
                seed=seed,
                best_of_iterates=self.settings.best_of_iterates,
            )
            account.evidence += result.evidence
        return result

    @property
    def is_staged(self) -> bool:
        """Whether the stages of the attack are run one by one; a library's own ensemble is run as it is."""
        return isinstance(self.settings.attack, Ensemble) and self.settings.best_of_iterates

    def stages(self) -> tuple[Attack, ...]:
        """Returns the stages to run; the restarts of an ensemble are further ones."""
        attack = self.settings.attack
        if not self.is_staged or self.ledger.clean_logits is None:
            return (attack,)
        return attack.stages(self.ledger.clean_logits.shape[1]) * attack.restarts

    def stage(self, level: int, stage: Attack, number: int, batch: SplitBatch, *, turn: int | str) -> AttackResult:
        """Runs one stage of an ensemble on the batch of that number at one budget; `turn` tells it from the same stage elsewhere.

        The evidence of the ledger gets all but the faults of its gradients: what they say depends on the other stages.
        """
        threat_model, started = self.settings.threat_models[level], time.perf_counter()
        seed = seed_of(batch_seed(self.settings.seed, self.settings.attack, threat_model, number), stage.name, turn)
        with self.ledger.timed(level) as account:
            result = search_ball(stage, self.inputs(batch), threat_model=threat_model, seed=seed)
            cost = StageEvidence(
                attacked=len(batch),
                adversarial=int(result.is_adversarial.sum()),
                forwards=result.evidence.forwards,
                backwards=result.evidence.backwards,
                seconds=time.perf_counter() - started,
            )
            evidence = replace(result.evidence, zero_gradients=0, nonfinite_gradients=0, stages={stage.name: cost})
            account.evidence += evidence
        return result

    def project(self, level: int, batch: SplitBatch, result: AttackResult) -> AttackResult:
        """Moves the images that were found at a larger budget into the balls of this one, and judges them there."""
        found = NearestResult(result.x_adv, result.distance, Evidence(), result.faults)
        with self.ledger.timed(level) as account:
            judged = within(found, self.inputs(batch), threat_model=self.settings.threat_models[level])
            account.evidence += Evidence(forwards=len(batch))
        return judged

    def leave_out(self, batch: SplitBatch) -> None:
        """Notes the clean images of examples that are not attacked."""
        self.ledger.leave_out(batch)
        self.advance(len(batch) * len(self.settings.threat_models))

    def note_rising(self, level: int, batch: SplitBatch, result: AttackResult) -> SplitBatch:
        """Notes the result at a budget, and of adversarial examples at all larger ones; returns the other examples."""
        self.note_result(level, batch, result)
        active = batch.at(~result.is_adversarial)
        larger = len(self.settings.threat_models) - level
        self.advance(int(result.is_adversarial.sum()) * larger + len(active))
        return active

    def note_result(self, level: int, batch: SplitBatch, result: AttackResult) -> None:
        """Notes the result at a budget, and of adversarial examples at all larger ones."""
        larger = range(level, len(self.settings.threat_models))
        self.ledger.note(larger, batch.indices, result, rows=result.is_adversarial)
        self.ledger.note([level], batch.indices, result, rows=~result.is_adversarial)
        self.ledger.note_violation(level, result)

    def note_later(self, level: int, batch: SplitBatch, result: AttackResult) -> None:
        """Notes the successes among examples that had none at a budget when the sweep came by."""
        cumulative = self.settings.protocol in CUMULATIVE
        levels = range(level, len(self.settings.threat_models)) if cumulative else [level]
        self.ledger.note(levels, batch.indices, result, rows=result.is_adversarial)
        self.ledger.note_violation(level, result.at(result.is_adversarial))


def batch_seed(seed: int, attack: Attack, threat_model: ThreatModel, number: int) -> int:
    """Returns the seed of an attack on one batch; of the batch only its number at this budget enters."""
    return seed_of(seed, attack.name, threat_model.norm, threat_model.eps, "batch", number)


class StageQueue:
    """The examples at one budget that wait for a stage of the attack, until they fill a batch: at most one batch at each stage.

    Args:
        run: The sweep.
        level: Position of the budget.
        first: Number of the first batch, which its seed depends on.
    """

    def __init__(self, run: SweepRun, level: int, *, first: int = 0) -> None:
        """See the class."""
        self.run, self.level, self.first = run, level, first
        self.stages: list[Attack] = []
        self.waiting: list[list[tuple[SplitBatch, GradientFaults]]] = [[]]
        self.numbers: list[int] = []

    def put(self, batch: SplitBatch) -> None:
        """Lets examples wait for the first stage."""
        if len(batch):
            self.waiting[0].append((batch, GradientFaults.before(batch.x)))

    def waits(self) -> int:
        """Returns the largest number of examples that wait for a stage."""
        return max(sum(len(batch) for batch, _ in waiting) for waiting in self.waiting)

    def work_off(self, least: int) -> Iterator[tuple[SplitBatch, AttackResult]]:
        """Runs each stage while at least `least` examples wait for it; yields those that need no further stage."""
        if not self.stages:
            self.stages = list(self.run.stages())
            self.waiting += [[] for _ in self.stages[1:]]
            self.numbers = [self.first] * len(self.stages)
        for position in range(len(self.stages)):
            while sum(len(batch) for batch, _ in self.waiting[position]) >= least:
                yield self._run(position)

    def _run(self, position: int) -> tuple[SplitBatch, AttackResult]:
        """Runs a stage on one batch; returns the examples with success, and after the last stage all."""
        batch, before = self._next(position)
        if not self.run.is_staged:
            return batch, self.run.attack(self.level, self.numbers[0] - 1, batch)
        number = self.numbers[position] - 1
        result = self.run.stage(self.level, self.stages[position], number, batch, turn=position)
        faults, rest = before.then(result.faults), (~result.is_adversarial).nonzero().flatten()
        last = position + 1 == len(self.stages)
        if not last and len(rest):
            self.waiting[position + 1].append((batch.at(rest), faults.at(rest)))
        done = torch.ones_like(result.is_adversarial) if last else result.is_adversarial
        self.run.ledger.accounts[self.level].evidence += faults.at(done).evidence
        return batch.at(done), result.at(done)

    def _next(self, position: int) -> tuple[SplitBatch, GradientFaults]:
        """Takes one batch from those that wait for a stage."""
        waiting, size = self.waiting[position], self.run.batch_size
        batch, rest = SplitBatch.joined([batch for batch, _ in waiting]).cut(size)
        faults = GradientFaults.joined([faults for _, faults in waiting])
        taken, left = torch.arange(len(batch)), torch.arange(len(batch), len(batch) + len(rest))
        self.waiting[position] = [(rest, faults.at(left))] if len(rest) else []
        self.numbers[position] += 1
        return batch, faults.at(taken)
