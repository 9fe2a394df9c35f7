"""Judges any `nn.Module` without a suite file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
import torch
from torch import nn

from harness.attacks.base import Attack
from harness.datasets.given import Given, examples_of
from harness.datasets.splits import subset
from harness.errors import DataError, HarnessError, ModelError, only_harness_errors
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.network_check import check_network
from harness.evaluation.sanity import judge
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.executors.local import reason_of
from harness.images import ImageSplit
from harness.models.layout import Inference, NumberFormat
from harness.models.safeguards import for_autograd
from harness.planning.grid import attack_cell
from harness.records import Cell, CellResult, Outcome, Protocol, RunRecord, Status
from harness.reports.tables.write import cells_table
from harness.spec import digest_fields, digest_of, parse_spec
from harness.standalone.arguments import (
    AttackLike,
    ThreatLike,
    check_budgets,
    check_numbers,
    check_types,
    labelled,
    rising,
    target_index,
)
from harness.system.memory import quick_garbage_collection, reused_memory
from harness.system.modes import usual_torch
from harness.system.progress import Progress, Silent
from harness.system.seeds import seed_of
from harness.threat import ThreatModel

logger = logging.getLogger(__name__)


@usual_torch()
@quick_garbage_collection()
@reused_memory()
def evaluate(
    model: nn.Module,
    data: object,
    *,
    attacks: AttackLike | Sequence[AttackLike] = ("fgsm", "pgd"),
    threat_model: ThreatLike | Sequence[ThreatLike] = ThreatModel(),  # noqa: B008 - frozen
    target_class: int | str | None = None,
    protocol: Protocol = "nested",
    limit: int | None = None,
    batch_size: int | None = None,
    compile: bool = False,  # noqa: A002 - as in a suite
    precision: NumberFormat = "float32",
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Scores a model on clean images and under attacks, in the columns of cells.csv.

    Args:
        model: Maps float images (N, 3, H, W) in [0,1] to logits (N, K), normalisation inside; judged on its own
            device and given back with its modes and gradients as they were. One that writes into its input is given copies; one
            without gradients is judged under black-box attacks, and its rows of other attacks are INVALID.
        data: A data set's name, mapping ({"name": "image_folder", "root": ..., "resolution": 224}) or plug-in, of which
            the test split is judged (of a folder without one the validation split, and all of it where it has no splits);
            a DataLoader, a map-style data set, or a pair of tensors: images (N, 3, H, W) in [0,1] and labels (N,). An image
            must be the same whenever it is read, and all of one size.
        attacks: Names ("pgd"), mappings ({"name": "pgd", "steps": 40}) or attack plug-ins; one or several.
        threat_model: One threat model, or several of one norm: a sweep of budgets. "8/255" is that Linf budget, which aims at
            the target class where there is one; a mapping has the fields ({"norm": "L2", "eps": 0.5}).
        target_class: Where they are targeted, the class to reach: its place among the logits, or its name in a data set.
        protocol: "nested", "independent" or "bisect", as in a suite.
        limit: Number of examples, drawn stratified by class; all where it is left out.
        batch_size: Images of a forward pass; chosen by the device where it is left out.
        compile: Whether attacks differentiate a network compiled by torch.compile; where that fails a warning says why.
        precision: Number format of the attacks' passes, "float32" or "bfloat16"; every success is judged in float32.
        seed: The seed that every random choice is derived from.
        progress: Where to show progress, by default nowhere.

    Returns:
        One row for the clean images, and one for each attack and budget. An attack that cannot run under a threat
        model, or on so few classes, has a row with status "skipped" and the reason; one that breaks has rows with
        status "failed", and the others go on.

    Raises:
        HarnessError: if an argument is of another type, an attack, data set or target class is unknown, threat models differ
            in norm or repeat a budget, images or labels are invalid, change while they are judged or cannot be read, or the
            model fails on them or does not give one logit a class. Nothing else is raised for a model or data.
    """
    check_types(model, protocol)
    check_numbers(limit=limit, batch_size=batch_size, seed=seed)
    model = for_autograd(model)
    inference = parse_spec(Inference, {"compile": compile, "precision": precision}, where="evaluate", error=HarnessError)
    threats, chosen, given = rising(threat_model, target_class), labelled(attacks), examples_of(data)
    check_budgets(chosen, threats)
    examples = subset(given.split, limit, seed)
    names = given.names_of(check_network(model, examples, _device_of(model)))
    target = target_index(target_class, names)
    judging = _Judging(model, examples, names, target, protocol, inference, batch_size, seed, progress or Silent())
    return cells_table(_record(judging, given, judging.rows(given.name, chosen, threats)))


def _record(judging: "_Judging", given: Given, rows: tuple[CellResult, ...]) -> RunRecord:
    """Returns the rows with what the sanity checks say of them, as a run without a suite."""
    return RunRecord(
        suite={"name": "evaluate"},
        cells=tuple(_remarked(row, given.remark) for row in judge(rows)),
        class_names=judging.class_names,
        example_ids=tuple(judging.examples.ids),
        example_hashes=tuple(judging.examples.hashes),
        histories={},
    )


def _remarked(result: CellResult, remark: str) -> CellResult:
    """Returns a row with numbers with a remark among its reasons, which leaves the verdict as it is."""
    known = bool(remark) and result.verdict is not None
    return replace(result, verdict_reasons=(*result.verdict_reasons, remark)) if known else result


def _device_of(model: nn.Module) -> torch.device:
    """Returns a network's own device."""
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))


@dataclass(frozen=True)
class _Judging:
    """What every condition of one evaluation has in common."""

    model: nn.Module
    examples: ImageSplit
    class_names: tuple[str, ...]
    target: int | None
    """The class that targeted threat models aim at."""
    protocol: Protocol
    inference: Inference
    """The form of the network that attacks differentiate."""
    batch_size: int | None
    seed: int
    progress: Progress

    @cached_property
    def outcome(self) -> Outcome:
        """The model's outputs on the clean examples."""
        with only_harness_errors(ModelError, "model: judging it on the clean images"):
            return evaluate_clean(
                self.model, self.examples, batch_size=self.batch_size, device=self.device, progress=self.progress
            )

    @property
    def device(self) -> torch.device:
        """The model's own device."""
        return _device_of(self.model)

    def rows(self, dataset: str, attacks: Mapping[str, Attack], threats: Sequence[ThreatModel]) -> tuple[CellResult, ...]:
        """Returns the clean row, then those of each attack."""
        name = type(self.model).__name__
        clean = Cell(dataset=dataset, model=name, arch=name, recipe="given", seed=self.seed)
        attacked = [row for label, attack in attacks.items() for row in self._attacked(clean, label, attack, threats)]
        return (self._result(clean, self.outcome, 0), *attacked)

    def _attacked(self, clean: Cell, label: str, attack: Attack, threats: Sequence[ThreatModel]) -> list[CellResult]:
        """Returns one row a budget: skipped where the attack cannot run, failed where it breaks."""
        skips = {threat: attack.supports_classes(len(self.class_names)) or attack.supports(threat) for threat in threats}
        able = [threat for threat in threats if skips[threat] is None]
        outcome, failure = self._attempt(label, attack, able) if able else (None, "")
        target_class = None if self.target is None else self.class_names[self.target]
        rows = []
        for threat in threats:
            cell = attack_cell(clean, label, attack, threat, protocol=self.protocol, target_class=target_class)
            if (skip := skips[threat]) is not None:
                rows.append(self._without_numbers(cell, Status.SKIPPED, skip))
            elif outcome is None:
                rows.append(self._without_numbers(cell, Status.FAILED, failure))
            else:
                rows.append(self._result(cell, outcome, able.index(threat)))
        return rows

    def _attempt(self, label: str, attack: Attack, threats: Sequence[ThreatModel]) -> tuple[Outcome | None, str]:
        """Returns what an attack found; nothing, and the reason, where it broke."""
        try:
            return self._sweep(attack, threats), ""
        except DataError:  # no fault of the attack: no other row can be trusted either
            raise
        except (Exception, SystemExit) as error:  # an attack's boundary: the others keep their numbers, as in a suite
            reason = reason_of(error)
            logger.error("%s failed: %s", label, reason, exc_info=not isinstance(error, HarnessError))
            return None, reason

    def _sweep(self, attack: Attack, threats: Sequence[ThreatModel]) -> Outcome:
        return sweep(
            self.model,
            self.examples,
            SweepSettings(
                attack,
                tuple(threats),
                protocol=self.protocol,
                seed=seed_of(self.seed, "attack"),
                inference=self.inference,
                target_class=self.target,
            ),
            batch_size=self.batch_size,
            device=self.device,
            progress=self.progress,
        )

    def _result(self, cell: Cell, outcome: Outcome, position: int) -> CellResult:
        return CellResult(
            cell,
            self._digest(cell),
            Status.DONE,
            labels=outcome.labels,
            clean_logits=outcome.clean_logits,
            condition=outcome.conditions[position],
            smallest_eps=outcome.smallest_eps,
        )

    def _without_numbers(self, cell: Cell, status: Status, reason: str) -> CellResult:
        return CellResult(cell, self._digest(cell), status, reason)

    def _digest(self, cell: Cell) -> str:
        settings = self.inference.settings() if cell.kind.is_attack else {}
        return digest_of(digest_fields(cell) | ({"inference": settings} if settings else {}))
