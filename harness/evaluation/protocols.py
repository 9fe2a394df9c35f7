"""How examples go through the budgets of a sweep: every image is read once, and memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from harness.attacks.frame import find_nearest, within
from harness.evaluation.stages import StageQueue

if TYPE_CHECKING:
    from harness.attacks.results import AttackResult
    from harness.evaluation.batches import SplitBatch
    from harness.evaluation.run import SweepRun


def nested(run: SweepRun, source: Iterable[SplitBatch]) -> None:
    """Attacks at the smallest budget first; only active examples go on to the next one.

    Active examples wait until they fill a batch, so batches stay full however few they are, and at most one batch waits at
    each budget.
    """
    queues = [StageQueue(run, level) for level in range(len(run.settings.threat_models))]

    def work_off(level: int, least: int) -> None:
        for batch, result in queues[level].work_off(least):
            active = run.note_rising(level, batch, result)
            if level + 1 < len(queues):
                queues[level + 1].put(active)

    for batch in source:
        eligible = run.eligible(batch)
        run.leave_out(batch.at(~eligible))
        queues[0].put(batch.at(eligible))
        for level in range(len(queues)):
            work_off(level, run.batch_size)
    for level in range(len(queues)):
        work_off(level, 1)


def independent(run: SweepRun, source: Iterable[SplitBatch]) -> None:
    """Attacks at every budget from scratch.

    Without best-of-iterates all examples are attacked, in the batches they come in, as the library alone would do.
    """
    levels = range(len(run.settings.threat_models))
    queues = [StageQueue(run, level) for level in levels]
    for number, batch in enumerate(source):
        eligible = run.eligible(batch)
        attacked = eligible if run.settings.best_of_iterates else torch.ones_like(eligible)
        run.leave_out(batch.at(~attacked))
        chosen, counted = batch.at(attacked), eligible[attacked]
        for level in levels if len(chosen) else ():
            if run.is_staged:
                queues[level].put(chosen)
                _work_off_alone(run, queues[level], run.batch_size)
            else:
                result = run.attack(level, number, chosen)
                _note_alone(run, level, chosen, replace(result, is_adversarial=result.is_adversarial & counted))
    for queue in queues:
        _work_off_alone(run, queue, 1)


def _work_off_alone(run: SweepRun, queue: StageQueue, least: int) -> None:
    for batch, result in queue.work_off(least):
        _note_alone(run, queue.level, batch, result)


def _note_alone(run: SweepRun, level: int, batch: SplitBatch, result: AttackResult) -> None:
    """Notes a result at one budget only."""
    run.ledger.note([level], batch.indices, result, rows=torch.ones_like(result.is_adversarial))
    run.ledger.note_violation(level, result)
    run.meter.settle(len(batch))


def minimum_norm(run: SweepRun, source: Iterable[SplitBatch]) -> None:
    """Seeks each example's smallest perturbation once and judges it at every budget.

    The passes of the search are charged to the smallest budget.
    """
    largest = run.settings.threat_models[-1]
    for number, batch in enumerate(source):
        eligible = run.eligible(batch)
        run.leave_out(batch.at(~eligible))
        rest = batch.at(eligible)
        if not len(rest):
            continue
        title, worth = f"eps up to {largest.eps}", len(run.settings.threat_models)
        run.meter.begin(title, len(rest), most=run.most_passes(run.settings.attack), worth=worth, gain=worth)
        with run.ledger.timed(0):
            seed = run.batch_seed(largest, number)
            found = find_nearest(run.settings.attack, run.inputs(rest), threat_model=largest, seed=seed)
        run.ledger.note_smallest(rest.indices, found.distance)
        for level, threat_model in enumerate(run.settings.threat_models):
            if not len(rest):
                break
            with run.ledger.timed(level) as account:
                result = within(found, run.inputs(rest), threat_model=threat_model)
                account.evidence += found.evidence if level == 0 else replace(found.evidence, forwards=0, backwards=0)
                account.evidence = replace(account.evidence, forwards=account.evidence.forwards + len(rest))
            found = found.at(~result.is_adversarial)
            rest = run.note_rising(level, rest, result)
