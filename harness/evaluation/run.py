"""One sweep on one network: what its protocol and its audit run on batches of examples."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.frame import run_attack, search_ball, within
from harness.attacks.passes import Passes
from harness.attacks.results import AttackInput, AttackResult, NearestResult
from harness.evaluation.batches import SplitBatch
from harness.evaluation.ledger import Ledger
from harness.evaluation.meter import Meter
from harness.evaluation.settings import SweepSettings
from harness.records import CUMULATIVE
from harness.records.evidence import Evidence, StageEvidence
from harness.system.modes import ModuleLists
from harness.system.seeds import seed_of
from harness.threat import ThreatModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.attacks.base import Attack


WITHOUT_GRADIENTS = ("none", "black_box")
"""The access of attacks that differentiate nothing."""


@dataclass(frozen=True, eq=False)
class SweepRun:
    """One sweep on one network."""

    settings: SweepSettings
    model: nn.Module
    """The reference model: it alone decides what is a success."""
    form: nn.Module
    """The inference form: the copy that the attack differentiates."""
    stands_in: bool
    """Whether that is another network than the reference model: attacks that differentiate nothing then ask the latter."""
    held: ModuleLists
    """What `guarded` gives out for both."""
    ledger: Ledger
    batch_size: int
    clean_logits: NDArray[np.float32] | None
    """Logits (N, K) on the unperturbed images where they are known."""
    meter: Meter
    """Is told of the examples x budgets that got their result, and listens to the attacks."""
    hashes: Sequence[str] | None = None
    """Content hashes (N,) of the examples, where random choices are keyed by them."""

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

    def inputs(self, batch: SplitBatch, attack: Attack | None = None) -> AttackInput:
        """Returns the network for an attack, by default the sweep's, with the examples of a batch and their classes."""
        differentiates = (attack or self.settings.attack).ACCESS not in WITHOUT_GRADIENTS
        form = self.model if self.stands_in and not differentiates else self.form
        classes = batch.y if self.settings.target_class is None else torch.full_like(batch.y, self.settings.target_class)
        hashes = None if self.hashes is None else tuple(self.hashes[index] for index in batch.indices.tolist())
        return AttackInput(self.model, batch.x, classes, form, self.held, self.meter, hashes)

    def attack(self, level: int, number: int, batch: SplitBatch) -> AttackResult:
        """Attacks the batch of that number at one budget."""
        threat_model = self.settings.threat_models[level]
        seed = self.batch_seed(threat_model, number)
        most = self.most_passes(self.settings.attack)
        self.meter.begin(f"eps {threat_model.eps}", len(batch), most=most, gain=self.gain_at(level))
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

    def most_passes(self, attack: Attack) -> Passes | None:
        """Returns the most passes that an attack makes of an example, over its restarts, where that is known."""
        logits = self.ledger.clean_logits
        return None if logits is None else attack.most_passes(logits.shape[1])

    def gain_at(self, level: int) -> int:
        """Returns at how many budgets an example with an adversarial at that budget is done."""
        return len(self.settings.threat_models) - level if self.settings.protocol == "nested" else 1

    @property
    def is_staged(self) -> bool:
        """Whether the stages of the attack are run one by one; a library's own ensemble is run as it is."""
        return self.settings.attack.STAGED and self.settings.best_of_iterates

    def stages(self) -> tuple[Attack, ...]:
        """Returns the stages to run; the restarts of an ensemble are further ones."""
        attack = self.settings.attack
        if not self.is_staged or self.ledger.clean_logits is None:
            return (attack,)
        return attack.stages(self.ledger.clean_logits.shape[1]) * attack.restarts

    def stage(
        self,
        level: int,
        stage: Attack,
        number: int,
        batch: SplitBatch,
        *,
        turn: int | str,
        span: tuple[float, float] = (0.0, 1.0),
        gain: int = 1,
    ) -> AttackResult:
        """Runs one stage of an ensemble on the batch of that number at one budget; `turn` tells it from the same stage elsewhere.

        Of the time that an example takes the stage is the part `span`, and a success in it is worth `gain`, see `Meter.begin`.

        The evidence of the ledger gets all but the faults of its gradients: what they say depends on the other stages.
        """
        threat_model, started = self.settings.threat_models[level], time.perf_counter()
        seed = seed_of(self.batch_seed(threat_model, number), stage.name, turn)
        title, (before, after) = f"eps {threat_model.eps}, {stage.name}", span
        self.meter.begin(title, len(batch), most=self.most_passes(stage), worth=after - before, gain=gain - before)
        with self.ledger.timed(level) as account:
            result = search_ball(stage, self.inputs(batch, stage), threat_model=threat_model, seed=seed)
            cost = StageEvidence(
                attacked=len(batch),
                adversarial=int(result.is_adversarial.sum()),
                forwards=result.evidence.forwards,
                backwards=result.evidence.backwards,
                seconds=time.perf_counter() - started,
            )
            evidence = replace(result.evidence, zero_gradients=0, nonfinite_gradients=0, stages={stage.name: cost})
            account.evidence += evidence
        self.meter.end(len(batch) - cost.adversarial)
        return result

    def project(self, level: int, batch: SplitBatch, result: AttackResult) -> AttackResult:
        """Moves the images that were found at a larger budget into the balls of this one, and judges them there."""
        found = NearestResult(result.x_adv, result.distance, Evidence(), result.faults)
        with self.ledger.timed(level) as account:
            judged = within(found, self.inputs(batch), threat_model=self.settings.threat_models[level])
            account.evidence += Evidence(forwards=len(batch))
        return judged

    def batch_seed(self, threat_model: ThreatModel, number: int) -> int:
        """Returns the seed of the attack on the batch of that number at one budget; by example all batches have the same."""
        if self.settings.by_example:
            return seed_of(self.settings.seed, self.settings.attack.name, threat_model.norm, threat_model.eps, "by example")
        return batch_seed(self.settings.seed, self.settings.attack, threat_model, number)

    def leave_out(self, batch: SplitBatch) -> None:
        """Notes the clean images of examples that are not attacked."""
        self.ledger.leave_out(batch)
        self.meter.settle(len(batch) * len(self.settings.threat_models))

    def note_rising(self, level: int, batch: SplitBatch, result: AttackResult) -> SplitBatch:
        """Notes the result at a budget, and of adversarial examples at all larger ones; returns the other examples."""
        self.note_result(level, batch, result)
        active = batch.at(~result.is_adversarial)
        larger = len(self.settings.threat_models) - level
        self.meter.settle(int(result.is_adversarial.sum()) * larger + len(active))
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
