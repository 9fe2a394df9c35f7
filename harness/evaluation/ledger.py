"""Keeps what a sweep finds, example by example, and turns it into an `Outcome`."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.attacks.base import Attack
from harness.attacks.results import AttackResult
from harness.evaluation.batches import SplitBatch
from harness.records import ConditionResult, Outcome
from harness.records.evidence import Evidence
from harness.threat import ThreatModel

Keep = Callable[[Fraction, NDArray[np.int64], Tensor], None]
"""Called with a budget, positions in the split (n,) and their final images (n, C, H, W), once an example and budget.

Where an audit, the recheck of `bisect`, or a sweep that is begun again with smaller batches, attacks an example again, it is
called again: the last image counts."""


class Account:
    """What one condition found and cost so far."""

    def __init__(self, count: int) -> None:
        """See the class."""
        self.logits: NDArray[np.float32] | None = None
        self.is_adversarial = np.zeros(count, dtype=bool)
        self.is_skipped = np.zeros(count, dtype=bool)
        self.distance = np.zeros(count, dtype=np.float32)
        self.violation = self.seconds = self.peak_memory_mb = 0.0
        self.evidence = Evidence()

    def write(self, indices: NDArray[np.int64], logits: NDArray[np.float32], *, is_adversarial: Tensor, distance: Tensor) -> None:
        """Notes the results of some examples."""
        if self.logits is None:
            self.logits = np.zeros((len(self.is_adversarial), logits.shape[1]), dtype=np.float32)
        self.logits[indices] = logits
        self.is_adversarial[indices] = is_adversarial.cpu().numpy()
        self.distance[indices] = distance.cpu().numpy()


class Ledger:
    """The accounts of all budgets of a sweep.

    Args:
        labels: True labels (N,).
        attack: The attack.
        threat_models: Its budgets, rising.
        target_class: The class that it aims at, where the threat models are targeted.
        device: Where the network runs, for the memory it takes.
        keep: Receives the final images; they are not kept here.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        attack: Attack,
        threat_models: Sequence[ThreatModel],
        *,
        target_class: int | None = None,
        device: torch.device,
        keep: Keep | None = None,
    ) -> None:
        """See the class."""
        self.labels, self.threat_models = labels, threat_models
        self.attack, self.target_class = attack, target_class
        self.device, self.keep = device, keep
        self.accounts = [Account(len(labels)) for _ in self.threat_models]
        self.clean_logits: NDArray[np.float32] | None = None
        self.smallest = np.full(len(labels), np.inf, dtype=np.float32)

    def take_over(self, found: Outcome) -> None:
        """Notes what was found on the same examples before."""
        self.clean_logits, self.smallest = found.clean_logits, found.smallest_eps
        for account, condition in zip(self.accounts, found.conditions, strict=True):
            account.logits, account.distance = condition.logits, condition.distance
            account.is_adversarial, account.violation = condition.is_adversarial, condition.max_violation
            account.seconds, account.peak_memory_mb = condition.seconds, condition.peak_memory_mb
            account.evidence = condition.evidence

    def clean(self, batch: SplitBatch, logits: Tensor) -> None:
        """Notes the logits (n, K) of unperturbed images."""
        if self.clean_logits is None:
            self.clean_logits = np.zeros((len(self.labels), logits.shape[1]), dtype=np.float32)
        self.clean_logits[batch.indices.numpy()] = logits.cpu().numpy()

    def leave_out(self, batch: SplitBatch) -> None:
        """Notes examples that are not attacked: their image stays the clean one at every budget."""
        if self.clean_logits is None or not len(batch):
            return
        indices, nothing = batch.indices.numpy(), torch.zeros(len(batch))
        logits = self.clean_logits[indices]
        for level in range(len(self.threat_models)):
            self._write(level, indices, batch.x, logits, is_adversarial=nothing.bool(), distance=nothing)

    def note(self, levels: Sequence[int], indices: Tensor, result: AttackResult, *, rows: Tensor) -> None:
        """Notes the outcome of an attack on some examples for one budget, or for that one and all larger ones.

        Args:
            levels: Positions of the budgets, rising.
            indices: (n,) positions in the split of all that were attacked.
            result: What was found on them.
            rows: (n,) whether an example is to be noted.
        """
        if not rows.any():
            return
        indices, is_adversarial, distance = indices[rows.cpu()], result.is_adversarial[rows], result.distance[rows]
        x_adv = result.x_adv if self.keep is None else result.x_adv[rows]  # images are slow to gather
        logits = result.logits[rows].cpu().numpy()
        for level in levels:
            self._write(level, indices.numpy(), x_adv, logits, is_adversarial=is_adversarial, distance=distance)
        self.note_smallest(indices, torch.where(is_adversarial, float(self.threat_models[levels[0]].eps), torch.inf))

    def skip(self, level: int, indices: Tensor) -> None:
        """Notes examples (n,) that are not attacked at a budget, as an attack at a larger one has no success."""
        self.accounts[level].is_skipped[indices.numpy()] = True

    def skipped(self, level: int) -> NDArray[np.int64]:
        """Returns the positions of the examples that were not attacked at a budget, and have no success at it."""
        account = self.accounts[level]
        return (account.is_skipped & ~account.is_adversarial).nonzero()[0]

    def note_violation(self, level: int, result: AttackResult) -> None:
        """Notes how far outside ball or bounds the final images of a budget lie."""
        account, threat_model = self.accounts[level], self.threat_models[level]
        if len(result.x_adv):
            account.violation = max(account.violation, float(threat_model.violation_at(result.distance, result.x_adv).max()))

    def note_smallest(self, indices: Tensor, eps: Tensor) -> None:
        """Notes budgets (n,) at which there is an adversarial of the examples (n,); inf says nothing."""
        rows = indices.numpy()
        self.smallest[rows] = np.minimum(self.smallest[rows], eps.float().cpu().numpy())

    def _write(
        self,
        level: int,
        indices: NDArray[np.int64],
        x: Tensor,
        logits: NDArray[np.float32],
        *,
        is_adversarial: Tensor,
        distance: Tensor,
    ) -> None:
        self.accounts[level].write(indices, logits, is_adversarial=is_adversarial, distance=distance)
        if self.keep is not None and len(indices):
            self.keep(self.threat_models[level].eps, indices, x)

    def active(self, level: int) -> NDArray[np.int64]:
        """Returns the positions of the examples that are without success at a budget, attacked or skipped."""
        if self.clean_logits is None:
            return np.zeros(0, dtype=np.int64)
        active = (self.clean_logits.argmax(axis=1) == self.labels) & ~self.accounts[level].is_adversarial
        return (active & (self.labels != self.target_class)).nonzero()[0]

    @contextmanager
    def timed(self, level: int) -> Iterator[Account]:
        """Charges the time and memory of what runs inside to a budget."""
        account, started = self.accounts[level], time.perf_counter()
        yield account
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        account.seconds += time.perf_counter() - started
        account.peak_memory_mb = max(account.peak_memory_mb, peak_memory_mb(self.device))

    def outcome(self, known: Evidence) -> Outcome:
        """Returns all that was found; `known` is what holds at every budget."""
        clean = np.zeros((len(self.labels), 0), dtype=np.float32) if self.clean_logits is None else self.clean_logits
        conditions = (
            ConditionResult(
                eps=threat_model.eps,
                logits=clean if account.logits is None else account.logits,
                is_adversarial=account.is_adversarial,
                distance=account.distance,
                max_violation=account.violation,
                forwards=account.evidence.forwards,
                backwards=account.evidence.backwards,
                seconds=account.seconds,
                peak_memory_mb=account.peak_memory_mb,
                evidence=account.evidence + known + self._kind(threat_model, account, classes=clean.shape[1]),
            )
            for threat_model, account in zip(self.threat_models, self.accounts, strict=True)
        )
        return Outcome(labels=self.labels, clean_logits=clean, conditions=tuple(conditions), smallest_eps=self.smallest)

    def _kind(self, threat_model: ThreatModel, account: Account, *, classes: int) -> Evidence:
        audited = account.evidence.audit is not None
        return kind_of(self.attack.at(threat_model.eps, audited=audited), classes=classes)


def kind_of(attack: Attack, *, classes: int) -> Evidence:
    """Returns what is known of an attack on a network of so many classes before it runs."""
    return Evidence(
        access=attack.ACCESS,
        conclusive=attack.conclusive(classes),
        shortfall=attack.shortfall(classes),
        margin=attack.MARGIN,
    )


def peak_memory_mb(device: torch.device) -> float:
    """Returns the largest memory so far, in MiB: of the device for a GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
