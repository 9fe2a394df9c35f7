"""How examples go through the budgets of a sweep: every image is read once, and memory does not grow with their number."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.attacks.frame import find_nearest, run_attack, within
from harness.attacks.passes import Passes
from harness.attacks.results import AttackInput, AttackResult
from harness.evaluation.batches import SplitBatch
from harness.evaluation.ledger import Ledger
from harness.evaluation.meter import Meter
from harness.evaluation.settings import SweepSettings
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
    meter: Meter
    """Is told of the examples x budgets that got their result, and listens to the attacks."""

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

    def inputs(self, batch: SplitBatch) -> AttackInput:
        """Returns the network with the examples of a batch and the classes for its criterion."""
        classes = batch.y if self.settings.target_class is None else torch.full_like(batch.y, self.settings.target_class)
        return AttackInput(self.model, batch.x, classes, self.form, self.held, self.meter)

    def attack(self, level: int, number: int, batch: SplitBatch) -> AttackResult:
        """Attacks the batch of that number at one budget."""
        threat_model = self.settings.threat_models[level]
        seed = batch_seed(self.settings.seed, self.settings.attack, threat_model, number)
        gain = len(self.settings.threat_models) - level if self.settings.protocol == "nested" else 1
        self.meter.begin(f"eps {threat_model.eps}", len(batch), worth=1, gain=gain, most=self.most_passes())
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

    def most_passes(self) -> Passes | None:
        """Returns the most forward passes that the attack makes of an example, over its restarts, where that is known."""
        attack, logits = self.settings.attack, self.ledger.clean_logits
        most = None if logits is None else attack.passes(logits.shape[1])
        return None if most is None else most.times(1 if attack.RESTARTS_INSIDE else attack.restarts)

    def leave_out(self, batch: SplitBatch) -> None:
        """Notes the clean images of examples that are not attacked."""
        self.ledger.leave_out(batch)
        self.meter.settle(len(batch) * len(self.settings.threat_models))

    def note_rising(self, level: int, batch: SplitBatch, result: AttackResult) -> SplitBatch:
        """Notes the result at a budget, and of adversarial examples at all larger ones; returns the other examples."""
        is_adversarial, active = result.is_adversarial, batch.at(~result.is_adversarial)
        larger = range(level, len(self.settings.threat_models))
        self.ledger.note(larger, batch.indices, result, rows=is_adversarial)
        self.ledger.note([level], batch.indices, result, rows=~is_adversarial)
        self.ledger.note_violation(level, result)
        self.meter.settle(int(is_adversarial.sum()) * len(larger) + len(active))
        return active


def batch_seed(seed: int, attack: Attack, threat_model: ThreatModel, number: int) -> int:
    """Returns the seed of an attack on one batch; of the batch only its number at this budget enters."""
    return seed_of(seed, attack.name, threat_model.norm, threat_model.eps, "batch", number)


def nested(run: SweepRun, source: Iterable[SplitBatch]) -> None:
    """Attacks at the smallest budget first; only active examples go on to the next one.

    Active examples wait until they fill a batch, so batches stay full however few they are, and at most one batch waits at
    each budget.
    """
    levels = range(len(run.settings.threat_models))
    waiting: list[list[SplitBatch]] = [[] for _ in levels]
    numbers = [0 for _ in levels]

    def work_off(level: int, least: int) -> None:
        while sum(map(len, waiting[level])) >= least:
            batch, rest = SplitBatch.joined(waiting[level]).cut(run.batch_size)
            waiting[level] = [rest] if len(rest) else []
            active = run.note_rising(level, batch, run.attack(level, numbers[level], batch))
            numbers[level] += 1
            if level + 1 < len(levels):
                waiting[level + 1].append(active)

    for batch in source:
        eligible = run.eligible(batch)
        run.leave_out(batch.at(~eligible))
        waiting[0].append(batch.at(eligible))
        for level in levels:
            work_off(level, run.batch_size)
    for level in levels:
        work_off(level, 1)


def independent(run: SweepRun, source: Iterable[SplitBatch]) -> None:
    """Attacks at every budget from scratch.

    Without best-of-iterates all examples are attacked, in the batches they come in, as the library alone would do.
    """
    for number, batch in enumerate(source):
        eligible = run.eligible(batch)
        attacked = eligible if run.settings.best_of_iterates else torch.ones_like(eligible)
        run.leave_out(batch.at(~attacked))
        chosen, counted = batch.at(attacked), eligible[attacked]
        for level in range(len(run.settings.threat_models)) if len(chosen) else ():
            result = run.attack(level, number, chosen)
            result = replace(result, is_adversarial=result.is_adversarial & counted)
            run.ledger.note([level], chosen.indices, result, rows=torch.ones_like(counted))
            run.ledger.note_violation(level, result)
            run.meter.settle(len(chosen))


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
        run.meter.begin(title, len(rest), worth=worth, gain=worth, most=run.most_passes())
        with run.ledger.timed(0):
            seed = batch_seed(run.settings.seed, run.settings.attack, largest, number)
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
