"""Suites: which models, attacks and budgets make up a grid, and what a run is expected to find."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from harness.attacks.base import ATTACKS, Attack
from harness.datasets.base import DATASETS, Dataset
from harness.models.base import MODELS, Architecture
from harness.spec import Eps, Spec
from harness.threat import Norm, ThreatModel
from harness.training.base import RECIPES, Recipe

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
"""A name in a suite file: letters, digits, "_" and "-"."""
Protocol = Literal["nested", "independent"]
Metric = Literal["accuracy", "clean_accuracy", "robust_accuracy", "attack_success_rate", "f1_macro", "roc_auc_macro"]
THREAT_FIELDS = ("norm", "eps", "protocol")


def parse_architecture(value: object) -> Architecture:
    """Reads "efficientnet_b0" as a timm name, "package.module:callable" as a factory, a mapping as a plug-in."""
    if isinstance(value, str):
        value = {"name": "factory", "factory": value} if ":" in value else {"name": "timm", "arch": value}
    return MODELS.parse(value)


ArchitectureField = Annotated[SerializeAsAny[Architecture], BeforeValidator(parse_architecture)]


class ModelEntry(Spec):
    """One model of the grid."""

    architecture: ArchitectureField | None = None
    """The network: a timm name, "package.module:callable" or a mapping; the suite's where it is left out."""
    recipe: Annotated[SerializeAsAny[Recipe], BeforeValidator(RECIPES.parse)]
    """How it is trained."""
    warm_start: Label | None = None
    """Label of the model whose trained weights it starts from."""


class AttackEntry(Spec):
    """One attack of the grid with its budgets; in YAML the fields of both stand side by side."""

    plugin: Annotated[SerializeAsAny[Attack], BeforeValidator(ATTACKS.parse)]
    """The attack."""
    norm: Norm | None = None
    """Norm of the budgets; the suite's where it is left out."""
    eps: Annotated[tuple[Eps, ...], Field(min_length=1)] | None = None
    """Budgets; the suite's where they are left out."""
    protocol: Protocol | None = None
    """How the budgets relate; the suite's where it is left out."""

    @model_validator(mode="before")
    @classmethod
    def _split_the_fields(cls, value: object) -> object:
        if isinstance(value, str):
            return {"plugin": value}
        if not isinstance(value, Mapping) or "plugin" in value:
            return value
        own = {key: value[key] for key in THREAT_FIELDS if key in value}
        return {**own, "plugin": {key: found for key, found in value.items() if key not in THREAT_FIELDS}}


class Evaluation(Spec):
    """Which examples are judged, and how."""

    split: Literal["validation", "test"] = "test"
    """The split that is scored."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Number of examples, drawn stratified by class and seed; all where it is left out."""
    protocol: Protocol = "nested"
    """nested: only survivors meet the next budget; independent: every budget from scratch."""
    best_of_iterates: bool = True
    """Whether any in-ball iterate of an attack counts, not only the one it returns."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Images of a forward pass; chosen by the device where it is left out. Not part of any digest."""


class ThreatGrid(Spec):
    """The norm and the budgets of every attack that names none of its own."""

    norm: Norm = Norm.LINF
    """Norm of the budgets."""
    eps: Annotated[tuple[Eps, ...], Field(min_length=1)]
    """Budgets in pixel units of [0,1], written "8/255"."""


class ExpectationEntry(Spec):
    """An assertion that the run checks and reports: of one number, or of one model's number over another's."""

    model: Label
    """The model's label."""
    metric: Metric
    """The column of cells.csv."""
    attack: Label | None = None
    """The attack's label; the clean row where it is left out."""
    eps: Eps | None = None
    """The budget, one of the attack's."""
    at_least: float | None = None
    """Smallest value."""
    at_most: float | None = None
    """Largest value."""
    above: Label | None = None
    """Label of a model that this one must surpass in the same cell."""
    by: float = 0.0
    """By how much it must surpass it."""

    @model_validator(mode="after")
    def _asserts_something(self) -> Self:
        if self.at_least is None and self.at_most is None and self.above is None:
            raise ValueError("expected at_least, at_most or above, got none of them")
        if (self.attack is None) != (self.eps is None):
            raise ValueError("expected attack and eps together, or neither for the clean row")
        return self


class Suite(Spec):
    """A grid of models x attacks x budgets on one data set."""

    schema_version: Literal[1] = 1
    """Version of this file format."""
    name: Label
    """Name of the suite and of its results folder."""
    title: str = ""
    """One line for the report's heading."""
    description: str = ""
    """What the suite is for."""
    seed: int = Field(default=0, ge=0)
    """The seed that every random choice is derived from."""
    dataset: Annotated[SerializeAsAny[Dataset], BeforeValidator(DATASETS.parse)]
    """The data set."""
    architecture: ArchitectureField | None = None
    """The network of every model that names none."""
    models: dict[Label, ModelEntry] = Field(min_length=1)
    """Label -> model."""
    threat_model: ThreatGrid | None = None
    """Norm and budgets of the attacks."""
    attacks: dict[Label, AttackEntry] = Field(default_factory=dict)
    """Label -> attack."""
    evaluation: Evaluation = Evaluation()
    """Which examples are judged, and how."""
    expectations: tuple[ExpectationEntry, ...] = ()
    """What a run is expected to find."""

    @model_validator(mode="after")
    def _references_resolve(self) -> Self:
        for label in self.models:
            self.architecture_of(label)
            self._check_warm_start(label)
        seen: dict[str, str] = {}
        for label, entry in self.attacks.items():
            self.threat_models(label)
            twin = seen.setdefault(entry.model_dump_json(), label)
            if twin != label:
                raise ValueError(f"attacks.{label}: expected an attack of its own, got the same as attacks.{twin}")
        for number, expectation in enumerate(self.expectations):
            self._check_expectation(number, expectation)
        return self

    def architecture_of(self, label: str) -> Architecture:
        """Returns the architecture of a model: its own, else the suite's.

        Raises:
            ValueError: if neither names one.
        """
        architecture = self.models[label].architecture or self.architecture
        if architecture is None:
            raise ValueError(f"models.{label}.architecture: required, as the suite names none for all models")
        return architecture

    def threat_models(self, label: str) -> tuple[ThreatModel, ...]:
        """Returns the threat models of an attack, budgets rising.

        Raises:
            ValueError: if no budgets are named, one is named twice, or one is too large for its norm.
        """
        entry = self.attacks[label]
        norm = entry.norm or (self.threat_model.norm if self.threat_model else Norm.LINF)
        budgets = entry.eps or (self.threat_model.eps if self.threat_model else None)
        if budgets is None:
            raise ValueError(f"attacks.{label}.eps: required, as the suite has no threat_model")
        where = f"attacks.{label}.eps" if entry.eps else "threat_model.eps"
        if len(set(budgets)) != len(budgets):
            raise ValueError(f"{where}: expected each budget once, got {', '.join(map(str, budgets))}")
        if norm is Norm.LINF and max(budgets) > 1:
            raise ValueError(f'{where}: expected budgets <= 1 in pixel units of [0,1]; write "8/255", not 8; got {max(budgets)}')
        return tuple(ThreatModel(norm=norm, eps=eps) for eps in sorted(budgets))

    def protocol_of(self, label: str) -> Protocol:
        """Returns the protocol of an attack: its own, else the suite's."""
        return self.attacks[label].protocol or self.evaluation.protocol

    def _check_warm_start(self, label: str) -> None:
        chain = [label]
        while (parent := self.models[chain[-1]].warm_start) is not None:
            where = f"models.{chain[-1]}.warm_start"
            _expect_one_of(parent, self.models, where)
            if parent in chain:
                raise ValueError(f"{where}: expected a chain that ends, got {' -> '.join([*chain, parent])}")
            if self.architecture_of(parent).arch != self.architecture_of(label).arch:
                raise ValueError(f"{where}: expected a model of the same architecture, got {self.architecture_of(parent).arch}")
            chain.append(parent)

    def _check_expectation(self, number: int, expectation: ExpectationEntry) -> None:
        where = f"expectations.{number}"
        _expect_one_of(expectation.model, self.models, f"{where}.model")
        if expectation.above is not None:
            _expect_one_of(expectation.above, self.models, f"{where}.above")
        if expectation.attack is not None and expectation.eps is not None:
            _expect_one_of(expectation.attack, self.attacks, f"{where}.attack")
            budgets = [str(threat.eps) for threat in self.threat_models(expectation.attack)]
            _expect_one_of(str(expectation.eps), budgets, f"{where}.eps")


def _expect_one_of(value: str, known: Iterable[str], where: str) -> None:
    if value not in (names := list(known)):
        raise ValueError(f"{where}: expected one of {', '.join(names)}, got {value!r}")


def suite_json(suite: Suite) -> dict[str, Any]:
    """Returns the suite as plain JSON values, with every field of every plug-in."""
    return suite.model_dump(mode="json")
