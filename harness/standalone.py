"""Judges any `nn.Module` without a suite file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pandas as pd
import torch
from pydantic import ValidationError
from torch import nn

from harness.attacks.base import ATTACKS, Attack
from harness.datasets.base import DATASETS, Dataset
from harness.datasets.splits import subset
from harness.datasets.tensors import split_of
from harness.errors import HarnessError, SuiteError
from harness.evaluation.protocol import evaluate_clean, sweep
from harness.evaluation.sanity import judge
from harness.grid import attack_cell
from harness.images import ImageSplit
from harness.memory import reused_memory
from harness.progress import Progress, Silent
from harness.records import Cell, CellResult, Outcome, RunRecord, Status
from harness.registry import PluginT, Registry
from harness.reports.tables import cells_table
from harness.seeds import seed_of
from harness.spec import digest_of, explain
from harness.threat import ThreatModel

AttackLike = str | Mapping[str, object] | Attack
Protocol = Literal["nested", "independent"]


@reused_memory()
def evaluate(
    model: nn.Module,
    data: object,
    *,
    attacks: Sequence[AttackLike] = ("fgsm", "pgd"),
    threat_model: ThreatModel | Sequence[ThreatModel] = ThreatModel(),  # noqa: B008 - frozen
    protocol: Protocol = "nested",
    limit: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Scores a model on clean images and under attacks, in the columns of cells.csv.

    Args:
        model: Maps float images (N, 3, H, W) in [0,1] to logits (N, K), normalisation inside; judged on its own
            device and given back with its modes and gradients as they were.
        data: A data set's name, mapping ({"name": "image_folder", "root": ..., "resolution": 224}) or plug-in, of which
            the test split is judged; a DataLoader, a map-style data set, or a pair of tensors: images (N, 3, H, W) in
            [0,1] and labels (N,).
        attacks: Names ("pgd"), mappings ({"name": "pgd", "steps": 40}) or attack plug-ins.
        threat_model: One threat model, or several of one norm: a sweep of budgets.
        protocol: "nested" or "independent", as in a suite.
        limit: Number of examples, drawn stratified by class; all where it is left out.
        batch_size: Images of a forward pass; chosen by the device where it is left out.
        seed: The seed that every random choice is derived from.
        progress: Where to show progress, by default nowhere.

    Returns:
        One row for the clean images, and one for each attack and budget; an attack that cannot run under a threat
        model has a row with status "skipped" and the reason.

    Raises:
        HarnessError: if an attack or data set is unknown, threat models differ in norm, or images or labels are invalid.
    """
    threats = _rising(threat_model)
    split, name = _examples_of(data)
    examples = subset(split, limit, seed)
    judging = _Judging(model, examples, protocol, batch_size, seed, progress or Silent())
    clean = Cell(dataset=name, model=type(model).__name__, arch=type(model).__name__, recipe="given", seed=seed)
    results = [judging.clean(clean)]
    for label, attack in _labelled(attacks).items():
        results += judging.attacked(clean, label, attack, threats)
    record = RunRecord(
        suite={"name": "evaluate"},
        cells=judge(tuple(results)),
        class_names=tuple(str(index) for index in range(judging.num_classes)),
        example_ids=tuple(examples.ids),
        example_hashes=tuple(examples.hashes),
        histories={},
    )
    return cells_table(record)


def _rising(threat_model: ThreatModel | Sequence[ThreatModel]) -> list[ThreatModel]:
    threats = [threat_model] if isinstance(threat_model, ThreatModel) else list(threat_model)
    norms = {threat.norm for threat in threats}
    if len(norms) != 1:
        raise HarnessError(f"threat_model: expected one or more of the same norm, got {', '.join(sorted(norms)) or 'none'}")
    return sorted(threats, key=lambda threat: threat.eps)


def _examples_of(data: object) -> tuple[ImageSplit, str]:
    """Returns the examples to judge and the name of their data set."""
    if isinstance(data, str | Mapping):
        data = _parsed(DATASETS, data, field="data")
    if isinstance(data, Dataset):
        return data.load().splits["test"], data.name
    return split_of(data), "given"


def _labelled(attacks: Sequence[AttackLike]) -> dict[str, Attack]:
    """Returns the attacks under their names; a second one of the same name gets a number."""
    labelled: dict[str, Attack] = {}
    for value in attacks:
        attack = _parsed(ATTACKS, value, field="attacks")
        twins = sum(known.name == attack.name for known in labelled.values())
        labelled[attack.name if twins == 0 else f"{attack.name}-{twins + 1}"] = attack
    return labelled


def _parsed(family: Registry[PluginT], value: object, *, field: str) -> PluginT:
    """Returns the plug-in that a name or mapping stands for; a mistake is an error that names the argument."""
    try:
        return family.parse(value)
    except ValidationError as problem:
        raise SuiteError("\n".join(f"{field}: {line}" for line in explain(problem))) from problem
    except ValueError as problem:
        raise SuiteError(f"{field}: {problem}") from problem


@dataclass(frozen=True)
class _Judging:
    """What every condition of one evaluation has in common."""

    model: nn.Module
    examples: ImageSplit
    protocol: Protocol
    batch_size: int | None
    seed: int
    progress: Progress

    @cached_property
    def outcome(self) -> Outcome:
        """The model's outputs on the clean examples."""
        return evaluate_clean(self.model, self.examples, batch_size=self.batch_size, device=self.device, progress=self.progress)

    @property
    def num_classes(self) -> int:
        """The number of logits K."""
        return int(self.outcome.clean_logits.shape[1])

    @property
    def device(self) -> torch.device:
        """The model's own device."""
        return next((tensor.device for tensor in [*self.model.parameters(), *self.model.buffers()]), torch.device("cpu"))

    def clean(self, cell: Cell) -> CellResult:
        """Returns the clean row."""
        return _result(cell, self.outcome, 0)

    def attacked(self, clean: Cell, label: str, attack: Attack, threats: Sequence[ThreatModel]) -> list[CellResult]:
        """Returns one row a budget; those that the attack does not support are skipped."""
        able = [threat for threat in threats if attack.supports(threat) is None]
        cells = [attack_cell(clean, label, attack, threat, protocol=self.protocol) for threat in threats]
        outcome = self._sweep(attack, able) if able else None
        return [
            _result(cell, outcome, able.index(threat))
            if outcome is not None and threat in able
            else _skipped(cell, attack, threat)
            for cell, threat in zip(cells, threats, strict=True)
        ]

    def _sweep(self, attack: Attack, threats: Sequence[ThreatModel]) -> Outcome:
        return sweep(
            self.model,
            self.examples,
            attack,
            threat_models=threats,
            protocol=self.protocol,
            seed=seed_of(self.seed, "attack"),
            batch_size=self.batch_size,
            device=self.device,
            progress=self.progress,
        )


def _result(cell: Cell, outcome: Outcome, position: int) -> CellResult:
    return CellResult(
        cell,
        digest_of(cell.model_dump(mode="json")),
        Status.DONE,
        labels=outcome.labels,
        clean_logits=outcome.clean_logits,
        condition=outcome.conditions[position],
        smallest_eps=outcome.smallest_eps,
    )


def _skipped(cell: Cell, attack: Attack, threat: ThreatModel) -> CellResult:
    return CellResult(cell, digest_of(cell.model_dump(mode="json")), Status.SKIPPED, attack.supports(threat) or "")
