"""The protocol `bisect`: each example's smallest budget with a success is searched by halving; a part of the rest is attacked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from harness.evaluation.batches import SplitBatch, load
from harness.evaluation.held import HeldResults
from harness.evaluation.meter import Meter
from harness.evaluation.stages import StageQueue
from harness.images import ImageSplit
from harness.records.evidence import Evidence
from harness.system.progress import Progress
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    from harness.attacks.results import AttackResult
    from harness.evaluation.run import SweepRun

PART = 10
"""One in so many skipped examples of a budget is attacked all the same."""
LEAST = 8
"""At least so many, where so many were skipped: a tenth of a few would find nothing."""
ALIKE = 16
"""Examples by which the next one's smallest budget is foretold; on digits 8 to 32 made no difference."""


def bisect(run: SweepRun, source: Iterable[SplitBatch]) -> None:
    """Halves the budgets among which the smallest one with a success may be: a success counts at all larger budgets.

    An example without success is taken to have none at smaller budgets either: there its image is projected into the ball and
    judged, which may still be a success, but it is not attacked. The halves are those of the examples before it whose margins
    were the most alike, so that few attacks are needed; until there are any, halves of the budgets. At most a batch waits for
    each stage of the attack at each budget, so batches stay full across the data set.
    """
    _Search(run).run_on(source)


def recheck(run: SweepRun, split: ImageSplit, progress: Progress) -> None:
    """Attacks a random part of the skipped examples of each budget all the same, smallest budget first.

    A success is noted at that budget and all larger ones. Where there is any, the budget's other skipped examples are attacked
    too, so that every active example was attacked at it, as in a nested sweep.

    Args:
        run: The sweep, once the search is through.
        split: The examples.
        progress: Where to show progress: examples, more than foreseen where there is a success.
    """
    levels = range(len(run.settings.threat_models))
    foreseen = sum(sample_size(len(run.ledger.skipped(level))) for level in levels)
    if foreseen:
        with progress.task(f"{run.settings.attack.name}, skipped", foreseen, unit="images x budgets") as advance:
            for level in levels:
                _recheck_at(replace(run, meter=Meter(advance)), split, level)


def _recheck_at(run: SweepRun, split: ImageSplit, level: int) -> None:
    seed = seed_of(run.settings.seed, "bisect", run.settings.threat_models[level].eps)
    order = np.random.default_rng(seed).permutation(run.ledger.skipped(level)).tolist()
    queue = StageQueue(run, level, first=len(split))  # the search has fewer batches, so that no seed comes twice
    tried = sample_size(len(order))
    successes = sum(_attacked(queue, split, order[:tried]))
    if successes:
        successes += sum(_attacked(queue, split, order[tried:]))
        tried = len(order)
    run.ledger.accounts[level].evidence += Evidence(skipped=len(order), skipped_tried=tried, skipped_successes=successes)


def sample_size(skipped: int) -> int:
    """Returns how many of a budget's skipped examples are attacked all the same.

    >>> [sample_size(count) for count in (3, 50, 101)]
    [3, 8, 11]
    """
    return min(skipped, max(LEAST, -(-skipped // PART)))


def _attacked(queue: StageQueue, split: ImageSplit, indices: list[int]) -> Iterator[int]:
    """Attacks examples at the queue's budget, notes what came out, and yields the number of successes."""
    run, level, size = queue.run, queue.level, queue.run.batch_size
    for start in range(0, len(indices), size):
        queue.put(load(split, indices[start : start + size], run.ledger.device))
        for batch, result in queue.work_off(1 if start + size >= len(indices) else size):
            run.note_result(level, batch, result)
            run.meter.settle(len(batch))
            yield int(result.is_adversarial.sum())


class _Search:
    """The search of each example's smallest budget with a success."""

    def __init__(self, run: SweepRun) -> None:
        self.run, self.count = run, len(run.settings.threat_models)
        examples = len(run.ledger.labels)
        self.low = np.zeros(examples, dtype=np.int64)  # no success below this budget
        self.high = np.full(examples, self.count)  # the smallest budget with a success so far
        self.is_decided = np.zeros(examples, dtype=bool)
        self.margin = np.zeros(examples)
        self.queues = [StageQueue(run, level) for level in range(self.count)]
        self.held = HeldResults()

    def run_on(self, source: Iterable[SplitBatch]) -> None:
        """Searches on the batches of a split."""
        for batch in source:
            eligible = self.run.eligible(batch)
            self.run.leave_out(batch.at(~eligible))
            chosen = batch.at(eligible)
            self.margin[chosen.indices.numpy()] = self.run.clean_margins(chosen)
            self._wait(chosen)
            self._work_off(self.run.batch_size)
        self._work_off(1)

    def _work_off(self, least: int) -> None:
        """Attacks while at least `least` examples wait for any budget."""
        while (fullest := max(self.queues, key=StageQueue.waits)).waits() >= least:
            for batch, result in fullest.work_off(least):
                self.run.ledger.note_violation(fullest.level, result)
                failed = ~result.is_adversarial
                if not failed.all():
                    self._fall(fullest.level, batch.at(~failed), result.at(~failed))
                if failed.any():
                    self._rise(fullest.level, batch.at(failed), result.at(failed))

    def _fall(self, level: int, batch: SplitBatch, result: AttackResult) -> None:
        """Goes on with adversarial examples at smaller budgets."""
        self.held.take(batch.indices)
        self.held.put(batch.indices, result)
        self.high[batch.indices.numpy()] = level
        self._wait(batch)

    def _rise(self, level: int, batch: SplitBatch, result: AttackResult) -> None:
        """Goes on with examples without success at larger budgets; none of them is attacked at smaller ones."""
        for smaller in range(level):
            asked = torch.from_numpy(self.low[batch.indices.numpy()] <= smaller)
            if not asked.any():
                continue
            chosen = batch.at(asked)
            judged = self.run.project(smaller, chosen, result.at(asked))
            skipped = self.run.note_rising(smaller, chosen, judged)
            self.run.ledger.skip(smaller, skipped.indices)
            self._decide(chosen.at(judged.is_adversarial), smaller)
            active = torch.from_numpy(~self.is_decided[batch.indices.numpy()])
            batch, result = batch.at(active), result.at(active)
        if len(batch):
            self.run.ledger.note([level], batch.indices, result, rows=torch.ones_like(result.is_adversarial))
            self.run.meter.settle(len(batch))
            self.low[batch.indices.numpy()] = level + 1
            self._wait(batch)

    def _decide(self, batch: SplitBatch, level: int) -> None:
        """Notes that the smallest success of examples is at a budget; that at a larger one no longer counts."""
        self.held.take(batch.indices)
        rows = batch.indices.numpy()
        self.high[rows], self.is_decided[rows] = level, True

    def _wait(self, batch: SplitBatch) -> None:
        """Lets examples wait for the next budget; where none is left, notes the smallest success, if there is any."""
        rows = batch.indices.numpy()
        done = self.low[rows] == self.high[rows]
        self.is_decided[rows[done]] = True
        for level in np.unique(self.high[rows[done]]):
            found = self.held.take(torch.from_numpy(rows[done & (self.high[rows] == level)]))
            if found is not None:
                larger = range(level, self.count)
                self.run.ledger.note(larger, found[0], found[1], rows=found[1].is_adversarial)
                self.run.meter.settle(len(found[0]) * len(larger))
        rest = batch.at(torch.from_numpy(~done))
        levels = self._next(rest.indices.numpy())
        for level in np.unique(levels):
            self.queues[level].put(rest.at(torch.from_numpy(levels == level)))

    def _next(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the budgets (n,) to attack the examples (n,) at: those that halve what the examples like them ended at."""
        decided = self.is_decided.nonzero()[0]
        ends = np.ones((len(rows), self.count + 1)) / ALIKE
        if len(decided):
            decided = decided[self.margin[decided].argsort(kind="stable")]
            first = np.searchsorted(self.margin[decided], self.margin[rows]) - ALIKE // 2
            window = np.clip(first, 0, max(0, len(decided) - ALIKE))[:, None] + np.arange(min(ALIKE, len(decided)))
            ends += (self.high[decided[window]][:, :, None] == np.arange(self.count + 1)).sum(axis=1)
        levels = np.arange(self.count + 1)
        low, high = self.low[rows][:, None], self.high[rows][:, None]
        ends[(levels < low) | (levels > high)] = 0
        halves = np.abs(ends.cumsum(axis=1) / ends.sum(axis=1, keepdims=True) - 0.5)
        halves[(levels < low) | (levels >= high)] = np.inf
        return halves.argmin(axis=1)
