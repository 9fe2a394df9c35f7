"""Judges any `nn.Module` without a suite file."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from numbers import Integral, Real
from typing import get_args

import pandas as pd
import torch
from torch import nn

from harness.attacks.base import ATTACKS, Attack
from harness.datasets.given import Given, examples_of
from harness.datasets.splits import subset
from harness.errors import DataError, HarnessError, ModelError, SuiteError, naming, only_harness_errors
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.network_check import check_network
from harness.evaluation.sanity import judge
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.executors.local import reason_of
from harness.images import ImageSplit, composed, misread
from harness.models.layout import Inference, NumberFormat
from harness.models.safeguards import for_autograd
from harness.planning.grid import attack_cell
from harness.records import Cell, CellResult, Outcome, Protocol, RunRecord, Status
from harness.reports.tables.write import cells_table
from harness.spec import digest_fields, digest_of, parse_spec, suggestion
from harness.system.memory import quick_garbage_collection, reused_memory
from harness.system.messages import shown
from harness.system.modes import usual_torch
from harness.system.progress import Progress, Silent
from harness.system.seeds import seed_of
from harness.threat import ThreatModel

LARGEST_SEED = 2**63 - 1
"""Tables keep seeds as signed integers of 64 bits."""

logger = logging.getLogger(__name__)

AttackLike = str | Mapping[str, object] | Attack
ThreatLike = str | float | Fraction | Mapping[str, object] | ThreatModel


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
        protocol: "nested" or "independent", as in a suite.
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
    _check_types(model, protocol)
    _check_numbers(limit=limit, batch_size=batch_size, seed=seed)
    model = for_autograd(model)
    inference = parse_spec(Inference, {"compile": compile, "precision": precision}, where="evaluate", error=HarnessError)
    threats, chosen, given = _rising(threat_model, target_class), _labelled(attacks), examples_of(data)
    examples = subset(given.split, limit, seed)
    names = given.names_of(check_network(model, examples, _device_of(model)))
    target = _target_index(target_class, names)
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


def _check_types(model: object, protocol: object) -> None:
    if not isinstance(model, nn.Module):
        hint = "; its module() is one" if isinstance(model, torch.export.ExportedProgram) else ""
        raise HarnessError(f"model: expected a torch.nn.Module, got {type(model).__name__}{hint}")
    if protocol not in get_args(Protocol):
        raise HarnessError(f"protocol: expected {' or '.join(get_args(Protocol))}, got {protocol!r}")


def _check_numbers(*, limit: object, batch_size: object, seed: object) -> None:
    for name, value in {"limit": limit, "batch_size": batch_size, "seed": seed}.items():
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool)):
            raise HarnessError(f"{name}: expected a whole number, got {value!r}")
    if isinstance(seed, Integral) and not 0 <= int(seed) <= LARGEST_SEED:
        raise HarnessError(f"seed: expected 0 to {LARGEST_SEED}, got {seed}")


def _listed(values: object, single: tuple[type, ...]) -> list[object]:
    """Returns several values, or the only one, which may be iterable itself if it is `single`, or an array without axes."""
    if getattr(values, "ndim", None) == 0 and hasattr(values, "item"):
        return [values.item()]
    return list(values) if isinstance(values, Iterable) and not isinstance(values, single) else [values]


def _rising(threat_model: object, target_class: object) -> list[ThreatModel]:
    """Returns the budgets of a sweep, smallest first."""
    targeted = target_class is not None
    threats = [_threat(value, targeted=targeted) for value in _listed(threat_model, (str, Mapping, ThreatModel))]
    if len({threat.targeted for threat in threats}) > 1:
        raise HarnessError("threat_model: expected all of them targeted or none, got both")
    norms = {threat.norm for threat in threats}
    if len(norms) != 1:
        raise HarnessError(f"threat_model: expected one or more of the same norm, got {', '.join(sorted(norms)) or 'none'}")
    if len({threat.eps for threat in threats}) < len(threats):
        raise HarnessError(f"threat_model: expected different budgets, got {', '.join(str(threat.eps) for threat in threats)}")
    if threats[0].targeted != (target_class is not None):
        wanted = (
            "the class that the targeted threat_model aims at" if threats[0].targeted else "ThreatModel(targeted=True) beside it"
        )
        raise HarnessError(f"target_class: expected {wanted}, got {target_class!r}")
    return sorted(threats, key=lambda threat: threat.eps)


def _threat(value: object, *, targeted: bool) -> ThreatModel:
    """Returns a threat model, or the one that a budget or its fields stand for."""
    if isinstance(value, ThreatModel):
        return value
    with naming("threat_model: ", SuiteError):
        if isinstance(value, Mapping):
            return ThreatModel(**{"targeted": targeted, **{str(name): found for name, found in value.items()}})
        if isinstance(value, str | Real) and not isinstance(value, bool):
            return ThreatModel(eps=value, targeted=targeted)
    raise HarnessError(f'threat_model: expected a budget such as "8/255", or ThreatModel(eps="8/255"), got {shown(value)}')


def _target_index(wanted: object, class_names: Sequence[str]) -> int | None:
    """Returns the place among the logits of a class that is given by that place or by its name."""
    if wanted is None:
        return None
    if isinstance(wanted, Integral) and not isinstance(wanted, bool) and 0 <= int(wanted) < len(class_names):
        if other := misread(int(wanted), class_names):
            raise HarnessError(f"target_class: {other}")
        return int(wanted)
    wanted = composed(wanted) if isinstance(wanted, str) else wanted
    if not isinstance(wanted, str) or wanted not in class_names:
        near = suggestion(str(wanted), class_names)
        raise HarnessError(f"target_class: expected 0 to {len(class_names) - 1} or a class name, got {wanted!r}{near}")
    return class_names.index(wanted)


def _remarked(result: CellResult, remark: str) -> CellResult:
    """Returns a row with numbers with a remark among its reasons, which leaves the verdict as it is."""
    known = bool(remark) and result.verdict is not None
    return replace(result, verdict_reasons=(*result.verdict_reasons, remark)) if known else result


def _device_of(model: nn.Module) -> torch.device:
    """Returns a network's own device."""
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))


def _labelled(attacks: object) -> dict[str, Attack]:
    """Returns the attacks under their names; a second one of the same name gets a number."""
    labelled: dict[str, Attack] = {}
    for value in _listed(attacks, (str, Mapping, Attack)):
        attack = ATTACKS.parse_argument(value, name="attacks")
        same = sum(known.name == attack.name for known in labelled.values())
        labelled[attack.name if same == 0 else f"{attack.name}-{same + 1}"] = attack
    return labelled


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
