"""The protocol `bisect`: an example's smallest budget with a success is searched by halving, and a part of what that skips attacked."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from harness.attacks.faults import GradientFaults
from harness.attacks.results import AttackResult
from harness.evaluation.batches import SplitBatch, load
from harness.evaluation.run import StageQueue, SweepRun
from harness.images import ImageSplit
from harness.records.evidence import Evidence
from harness.system.seeds import seed_of

PART = 10
"""One in so many skipped examples of a budget is attacked all the same."""
LEAST = 8
"""At least so many, where so many were skipped: a tenth of a few would find nothing."""


def bisect(run: SweepRun, source: Iterable[SplitBatch]) -> None:
    """Attacks at the middle budget first, then at the middle of the smaller ones after a success, else of the larger ones.

    A success counts at all larger budgets. An example without success is taken to have none at smaller budgets either: there its
    image is projected into the ball and judged, which may still be a success, but it is not attacked. At each budget at most one
    batch waits for every stage of the attack.
    """
    _Search(run).run_on(source)


def recheck(run: SweepRun, split: ImageSplit, *, advance: Callable[[int], None]) -> None:
    """Attacks a random part of the skipped examples of each budget all the same, smallest budget first.

    A success is noted at that budget and all larger ones. Where there is any, the budget's other skipped examples are attacked
    too, so that every active example was attacked at it, as in a nested sweep.

    Args:
        run: The sweep, once the search is through.
        split: The examples.
        advance: Called with the number of examples that were just attacked.
    """
    for level, account in enumerate(run.ledger.accounts):
        skipped = run.ledger.skipped(level)
        if not len(skipped):
            continue
        seed = seed_of(run.settings.seed, "bisect", run.settings.threat_models[level].eps)
        order = np.random.default_rng(seed).permutation(skipped).tolist()
        queue = StageQueue(run, level, first=len(split))  # the search has fewer batches, so that no seed comes twice
        tried = sample_size(len(order))
        successes = sum(_attacked(queue, split, order[:tried], advance))
        if successes:
            successes += sum(_attacked(queue, split, order[tried:], advance))
            tried = len(order)
        account.evidence += Evidence(skipped=len(order), skipped_tried=tried, skipped_successes=successes)


def sample_size(skipped: int) -> int:
    """Returns how many of a budget's skipped examples are attacked all the same.

    >>> [sample_size(count) for count in (3, 50, 101)]
    [3, 8, 11]
    """
    return min(skipped, max(LEAST, -(-skipped // PART)))


def _attacked(queue: StageQueue, split: ImageSplit, indices: list[int], advance: Callable[[int], None]) -> Iterator[int]:
    """Attacks examples at the queue's budget, notes what came out, and yields the number of successes."""
    run, level, size = queue.run, queue.level, queue.run.batch_size
    for start in range(0, len(indices), size):
        queue.put(load(split, indices[start : start + size], run.ledger.device))
        for batch, result in queue.work_off(1 if start + size >= len(indices) else size):
            run.note_result(level, batch, result)
            advance(len(batch))
            yield int(result.is_adversarial.sum())


class _Held:
    """The adversarials of the smallest budget so far, of the examples that wait for an attack at a smaller one."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.result: AttackResult | None = None

    def put(self, indices: Tensor, result: AttackResult) -> None:
        """Keeps results of the examples (n,)."""
        self.indices += indices.tolist()
        self.result = result if self.result is None else _joined(self.result, result)

    def take(self, indices: Tensor) -> AttackResult | None:
        """Returns the results of the examples (n,) in their order, and forgets them; None where nothing was kept."""
        if self.result is None:
            return None
        places = {index: place for place, index in enumerate(self.indices)}
        rows = [places.pop(index) for index in indices.tolist()]
        taken, rest = self.result.at(torch.tensor(rows, dtype=torch.int64)), torch.tensor([*places.values()], dtype=torch.int64)
        self.indices, self.result = [*places], self.result.at(rest) if len(rest) else None
        return taken


class _Search:
    """The search of each example's smallest budget with a success.

    Its budgets form a binary tree: an example at a budget has had its smallest success at `high`, and none below `low`.
    """

    def __init__(self, run: SweepRun) -> None:
        self.run, self.count = run, len(run.settings.threat_models)
        self.spans = list(_spans(0, self.count))
        self.queues = [StageQueue(run, level) for level in range(self.count)]
        self.held = [_Held() for _ in self.queues]

    def run_on(self, source: Iterable[SplitBatch]) -> None:
        """Searches on batches of a split; batches are full until the last ones."""
        for batch in source:
            eligible = self.run.eligible(batch)
            self.run.leave_out(batch.at(~eligible))
            self._wait(0, self.count, batch.at(eligible), None)
            self._work_off(self.run.batch_size)
        self._work_off(1)

    def _work_off(self, least: int) -> None:
        """Attacks while at least `least` examples wait; a budget's examples come from budgets before it in this order."""
        for low, level, high in self.spans:
            for batch, result in self.queues[level].work_off(least):
                self.run.ledger.note_violation(level, result)
                held, success = self.held[level].take(batch.indices), result.is_adversarial
                if success.any():
                    self._wait(low, level, batch.at(success), result.at(success))
                if not success.all():
                    failed = ~success
                    self._rise((low, level, high), batch.at(failed), result.at(failed), None if held is None else held.at(failed))

    def _rise(self, span: tuple[int, int, int], batch: SplitBatch, result: AttackResult, held: AttackResult | None) -> None:
        """Goes on with examples without success: none is attacked at smaller budgets, and the search goes on at larger ones."""
        low, level, high = span
        places = torch.arange(len(batch))
        for smaller in range(low, level):
            if not len(batch):
                return
            judged = self.run.project(smaller, batch, result)
            batch, rest = self.run.note_rising(smaller, batch, judged), ~judged.is_adversarial
            self.run.ledger.skip(smaller, batch.indices)
            result, places = result.at(rest), places[rest.cpu()]
        if len(batch):
            self.run.ledger.note([level], batch.indices, result, rows=torch.ones_like(result.is_adversarial))
            self.run.advance(len(batch))
            self._wait(level + 1, high, batch, None if held is None else held.at(places))

    def _wait(self, low: int, high: int, batch: SplitBatch, held: AttackResult | None) -> None:
        """Lets examples wait for the budget in the middle; where none is left, notes the smallest success, if there is any."""
        if low < high:
            level = _middle(low, high)
            self.queues[level].put(batch)
            if held is not None:
                self.held[level].put(batch.indices, held)
        elif held is not None:
            larger = range(high, self.count)
            self.run.ledger.note(larger, batch.indices, held, rows=held.is_adversarial)
            self.run.advance(len(batch) * len(larger))


def _middle(low: int, high: int) -> int:
    """Returns the budget to attack where the smallest success is one of `low` to `high`, the latter without an attack."""
    return (low + high) // 2


def _spans(low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """Yields the search at each budget, as `low`, the budget and `high`: each one after that which leads to it."""
    if low < high:
        middle = _middle(low, high)
        yield low, middle, high
        yield from _spans(low, middle)
        yield from _spans(middle + 1, high)


def _joined(left: AttackResult, right: AttackResult) -> AttackResult:
    """Returns two results as one, without their evidence."""
    tensors = {name: torch.cat([getattr(it, name) for it in (left, right)]) for name in ("x_adv", "logits", "is_adversarial", "distance")}
    return AttackResult(**tensors, evidence=Evidence(), faults=GradientFaults.joined([left.faults, right.faults]))
