"""The stages of an attack at one budget: each gets full batches of the examples that the ones before leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from harness.attacks.faults import GradientFaults
from harness.evaluation.batches import SplitBatch

if TYPE_CHECKING:
    from harness.attacks.base import Attack
    from harness.attacks.results import AttackResult
    from harness.evaluation.run import SweepRun


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
        self.spans: list[tuple[float, float]] = []

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
            self.spans = self._spans()
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
        stage, span, gain = self.stages[position], self.spans[position], self.run.gain_at(self.level)
        result = self.run.stage(self.level, stage, number, batch, turn=position, span=span, gain=gain)
        faults, rest = before.then(result.faults), (~result.is_adversarial).nonzero().flatten()
        last = position + 1 == len(self.stages)
        if not last and len(rest):
            self.waiting[position + 1].append((batch.at(rest), faults.at(rest)))
        done = torch.ones_like(result.is_adversarial) if last else result.is_adversarial
        self.run.ledger.accounts[self.level].evidence += faults.at(done).evidence
        return batch.at(done), result.at(done)

    def _spans(self) -> list[tuple[float, float]]:
        """Returns for each stage which part of all passes of an example it is at most; equal parts where that is not known."""
        most = [self.run.most_passes(stage) for stage in self.stages]
        costs = [1 if None in most or passes is None else passes.cost for passes in most]
        ends = [sum(costs[: number + 1]) / max(sum(costs), 1) for number in range(len(costs))]
        return list(zip([0.0, *ends], ends, strict=False))

    def _next(self, position: int) -> tuple[SplitBatch, GradientFaults]:
        """Takes one batch from those that wait for a stage."""
        waiting, size = self.waiting[position], self.run.batch_size
        batch, rest = SplitBatch.joined([batch for batch, _ in waiting]).cut(size)
        faults = GradientFaults.joined([faults for _, faults in waiting])
        taken, left = torch.arange(len(batch)), torch.arange(len(batch), len(batch) + len(rest))
        self.waiting[position] = [(rest, faults.at(left))] if len(rest) else []
        self.numbers[position] += 1
        return batch, faults.at(taken)
