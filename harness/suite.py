"""Suites: which models, attacks and budgets make up a grid, and what a run is expected to find."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from harness.corruptions.base import CORRUPTIONS, Corruption
from harness.datasets.base import DATASETS, Dataset
from harness.entries import (
    RESERVED,
    ArchitectureField,
    AttackEntry,
    CrosscheckEntry,
    DetectorEntry,
    Evaluation,
    ExpectationEntry,
    FolderEntry,
    Label,
    ModelEntry,
    PoisonEntry,
    ThreatGrid,
    TransferEntry,
)
from harness.errors import ModelError, SuiteError, naming
from harness.evaluation.protocol import Protocol
from harness.models.base import Architecture
from harness.spec import Spec
from harness.threat import Norm, ThreatModel
from harness.training.adversarial import AdversarialRecipe


class Variant(NamedTuple):
    """A model of the grid as it is trained: on the clean data, or on data with one poison at one rate."""

    model: str
    poison: str | None = None
    rate: float | None = None
    repetition: int = 0
    """Which of the poison's repetitions it is; each has a seed of its own."""

    @property
    def name(self) -> str:
        """How a person names it: the label, "baseline@backdoor@0.05", with "@1" behind it for the second repetition."""
        poisoned = "" if self.rate is None else f"@{self.poison}@{self.rate:g}"
        return f"{self.model}{poisoned}" + (f"@{self.repetition}" if self.repetition else "")

    @property
    def title(self) -> str:
        """What its training is called, e.g. "baseline, backdoor 5 %, repetition 1"."""
        poisoned = "" if self.rate is None else f", {self.poison} {100 * self.rate:g} %"
        return f"{self.model}{poisoned}" + (f", repetition {self.repetition}" if self.repetition else "")


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
    devices: int = Field(default=1, ge=1)
    """GPUs, or processes on the CPU, that share each batch of every training; batch norm sees each share alone."""
    dataset: Annotated[SerializeAsAny[Dataset], BeforeValidator(DATASETS.parse)]
    """The data set."""
    architecture: ArchitectureField | None = None
    """The network of every model that names none."""
    models: dict[Label, ModelEntry] = Field(min_length=1)
    """Label -> model."""
    threat_model: ThreatGrid | None = None
    """Norm and budgets of the attacks."""
    poisons: dict[Label, PoisonEntry] = Field(default_factory=dict)
    """Label -> poison: every model is also trained on every poison at each of its rates."""
    detectors: dict[Label, DetectorEntry] = Field(default_factory=dict)
    """Label -> detector of poisons."""
    attacks: dict[Label, AttackEntry] = Field(default_factory=dict)
    """Label -> attack."""
    corruptions: dict[Label, Annotated[SerializeAsAny[Corruption], BeforeValidator(CORRUPTIONS.parse)]] = Field(
        default_factory=dict
    )
    """Label -> real-world condition, scored at each of its severities."""
    folders: dict[Label, FolderEntry] = Field(default_factory=dict)
    """Label -> folder of other images of the same classes, scored as they are."""
    evaluation: Evaluation = Evaluation()
    """Which examples are judged, and how."""
    crosscheck: CrosscheckEntry = CrosscheckEntry()
    """What the exported models are scored on, in every runtime."""
    transfer: tuple[TransferEntry, ...] = ()
    """Attacks whose adversarials, made on each model, are scored on all models: one matrix each."""
    expectations: tuple[ExpectationEntry, ...] = ()
    """What a run is expected to find."""

    @model_validator(mode="after")
    def _references_resolve(self) -> Self:
        for label in self.models:
            self.architecture_of(label)
            self._check_warm_start(label)
            self._check_teacher(label)
            self._check_training_images(label)
            for poison in self.models[label].poisons or ():
                _expect_one_of(poison, self.poisons, f"models.{label}.poisons")
        for label in self.detectors:
            self._check_detector(label)
        self._check_labels()
        seen: dict[str, str] = {}
        for label, entry in self.attacks.items():
            for model in entry.models or ():
                _expect_one_of(model, self.models, f"attacks.{label}.models")
            self.threat_models(label)
            twin = seen.setdefault(entry.model_dump_json(), label)
            if twin != label:
                raise ValueError(f"attacks.{label}: expected an attack of its own, got the same as attacks.{twin}")
        for number, transfer in enumerate(self.transfer):
            self._check_transfer(transfer, f"transfer.{number}")
        for number, expectation in enumerate(self.expectations):
            self._check_expectation(number, expectation)
        self._check_crosscheck()
        return self

    def variants(self) -> tuple[Variant, ...]:
        """Returns every model of the grid as it is trained: the clean one first, then poison by poison."""
        found: list[Variant] = []
        for model in self.models:
            found.append(Variant(model))
            for poison in self.poisons_of(model):
                entry = self.poisons[poison]
                found += [Variant(model, poison, rate, number) for rate in entry.rates for number in range(entry.seeds)]
        return tuple(found)

    def variant(self, name: str) -> Variant:
        """Returns the model of the grid of that name, as `Variant.name` writes it.

        Raises:
            SuiteError: if there is none.
        """
        known = {variant.name: variant for variant in self.variants()}
        if name not in known:
            raise SuiteError(f"model: expected one of {', '.join(known)}, got {name!r}")
        return known[name]

    def poisons_of(self, model: str) -> tuple[str, ...]:
        """Returns the labels of the poisons that a model is also trained on."""
        named = self.models[model].poisons
        return tuple(self.poisons) if named is None else named

    def attacks_model(self, attack: str, model: str) -> bool:
        """Returns whether the attack of a label is meant for the model of a label."""
        named = self.attacks[attack].models
        return named is None or model in named

    def models_of(self, detector: str) -> tuple[str, ...]:
        """Returns the labels of the models whose poisoned trainings a detector looks at."""
        return self.detectors[detector].models or (next(iter(self.models)),)

    def trains_anew(self, detector: str, poison: str) -> bool:
        """Returns whether what a detector leaves of a training set with some poison is trained on anew."""
        entry = self.detectors[detector]
        return entry.retrain and not entry.plugin.RUN_TIME and (entry.retrain_for is None or poison in entry.retrain_for)

    def seed_of(self, variant: Variant) -> int:
        """Returns the seed that a model of the grid is poisoned and trained with."""
        return self.seed + variant.repetition

    def architecture_of(self, label: str) -> Architecture:
        """Returns the architecture of a model: its own, else the suite's.

        Raises:
            ValueError: if neither names one.
        """
        architecture = self.models[label].architecture or self.architecture
        if architecture is None:
            raise ValueError(f"models.{label}.architecture: required, as the suite names none for all models")
        return architecture

    def check_networks(self) -> None:
        """Looks up every network that is named, without building it.

        Raises:
            ModelError: if timm has none of that name, or a factory cannot be imported; begins with the field's path.
        """
        for where, architecture in self._architectures():
            with naming(f"{where}.", ModelError):
                architecture.find()

    def check_weights(self) -> None:
        """Reads every file of weights that is named.

        Raises:
            ModelError: if one is missing or damaged; begins with the field's path.
        """
        for where, architecture in self._architectures():
            with naming(f"{where}.", ModelError):
                architecture.check_weights()

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
        targeted = entry.target_class is not None
        return tuple(ThreatModel(norm=norm, eps=eps, targeted=targeted) for eps in sorted(budgets))

    def protocol_of(self, label: str) -> Protocol:
        """Returns the protocol of an attack: its own, else the suite's."""
        return self.attacks[label].protocol or self.evaluation.protocol

    def _architectures(self) -> Iterator[tuple[str, Architecture]]:
        """Yields every architecture that is named, with the path of its field."""
        own = {f"models.{label}.architecture": entry.architecture for label, entry in self.models.items()}
        for where, architecture in {"architecture": self.architecture, **own}.items():
            if architecture is not None:
                yield where, architecture

    def _check_warm_start(self, label: str) -> None:
        chain = [label]
        while (parent := self.models[chain[-1]].warm_start) is not None:
            where = f"models.{chain[-1]}.warm_start"
            _expect_one_of(parent, self.models, where)
            if parent in chain:
                raise ValueError(f"{where}: expected a chain that ends, got {' -> '.join([*chain, parent])}")
            if self.architecture_of(parent).structure() != self.architecture_of(label).structure():
                raise ValueError(f"{where}: expected a model of the same architecture and arguments, got {parent}'s")
            chain.append(parent)

    def _check_teacher(self, label: str) -> None:
        entry = self.models[label]
        if entry.warm_start is None and isinstance(entry.recipe, AdversarialRecipe) and entry.recipe.distil:
            where = f"models.{label}.recipe.distil"
            raise ValueError(f"{where}: expected a warm_start beside it, whose model is the teacher, got none")

    def _check_training_images(self, label: str) -> None:
        recipe, where = self.models[label].recipe, f"models.{label}.recipe"
        if recipe.validation == "learned" and self.poisons_of(label):
            expected = "expected held_out for a model with poisons, whose rates are shares of the training split"
            raise ValueError(f"{where}.validation: {expected}, got learned")
        if recipe.progressive is not None and recipe.progressive.resolution >= (full := self.dataset.resolution):
            expected = f"expected fewer pixels than the data set's {full}"
            raise ValueError(f"{where}.progressive.resolution: {expected}, got {recipe.progressive.resolution}")

    def _check_labels(self) -> None:
        taken = [f"{family}.{label}" for family in ("attacks", "folders") for label in RESERVED if label in getattr(self, family)]
        if taken:
            raise ValueError(f"{taken[0]}: expected another label, as the tables use {' and '.join(RESERVED)} themselves")

    def _check_detector(self, label: str) -> None:
        for model in self.models_of(label):
            _expect_one_of(model, self.models, f"detectors.{label}.models")
            if not self.poisons_of(model):
                raise ValueError(f"detectors.{label}.models: expected models with poisons to detect, got {model!r} without any")
        offered = {poison for model in self.models_of(label) for poison in self.poisons_of(model)}
        for poison in self.detectors[label].retrain_for or ():
            _expect_one_of(poison, sorted(offered), f"detectors.{label}.retrain_for")

    def _check_crosscheck(self) -> None:
        entry, where = self.crosscheck, "crosscheck"
        for label in entry.models or ():
            _expect_one_of(label, self.models, f"{where}.models")
        for label in entry.attacks or ():
            _expect_one_of(label, self.attacks, f"{where}.attacks")
        for label in entry.corruptions:
            _expect_one_of(label, self.corruptions, f"{where}.corruptions")
        offered = {severity for label in entry.corruptions for severity in self.corruptions[label].severities}
        for severity in entry.severities or ():
            _expect_one_of(str(severity), sorted(map(str, offered)), f"{where}.severities")
        budgets = {str(threat.eps) for label in entry.attacks or self.attacks for threat in self.threat_models(label)}
        for eps in entry.eps or ():
            _expect_one_of(str(eps), sorted(budgets), f"{where}.eps")

    def _check_expectation(self, number: int, expectation: ExpectationEntry) -> None:
        where = f"expectations.{number}"
        _expect_one_of(expectation.model, self.models, f"{where}.model")
        if expectation.above is not None:
            _expect_one_of(expectation.above, self.models, f"{where}.above")
        if expectation.attack is not None and expectation.eps is not None:
            self._check_budget(expectation.attack, expectation.eps, where)
        if expectation.poison is not None:
            _expect_one_of(expectation.poison, self.poisons_of(expectation.model), f"{where}.poison")
            poison = self.poisons[expectation.poison]
            _expect_one_of(str(expectation.rate), map(str, poison.rates), f"{where}.rate")
            offered = ["clean", *["trigger"] * poison.plugin.HAS_TRIGGER, *["target"] * poison.plugin.is_targeted]
            _expect_one_of(expectation.condition, offered, f"{where}.condition")

    def _check_transfer(self, transfer: TransferEntry, where: str) -> None:
        self._check_budget(transfer.attack, transfer.eps, where)
        if (target := self.attacks[transfer.attack].target_class) is not None:
            expected = "expected an untargeted attack, as the matrix counts any wrong class"
            raise ValueError(f"{where}.attack: {expected}, got {transfer.attack!r}, which aims at {target}")

    def _check_budget(self, attack: str, eps: Fraction, where: str) -> None:
        _expect_one_of(attack, self.attacks, f"{where}.attack")
        _expect_one_of(str(eps), [str(threat.eps) for threat in self.threat_models(attack)], f"{where}.eps")


def _expect_one_of(value: str, known: Iterable[str], where: str) -> None:
    if value not in (names := list(known)):
        raise ValueError(f"{where}: expected one of {', '.join(names)}, got {value!r}")


def suite_json(suite: Suite) -> dict[str, Any]:
    """Returns the suite as plain JSON values, with every field of every plug-in."""
    return suite.model_dump(mode="json")
