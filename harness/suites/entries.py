"""The parts of a suite file: models, poisons, detectors, attacks, budgets, examples and expectations."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from harness.attacks.base import ATTACKS, Attack
from harness.conditions import CLEAN
from harness.errors import SuiteError
from harness.models.layout import Inference, NumberFormat
from harness.poisoning.base import POISONS, ClassName, Poison
from harness.poisoning.choice import class_index
from harness.poisoning.detectors.base import DETECTORS, Detector
from harness.records import Protocol
from harness.spec import Eps, Spec, suggestion
from harness.suites.labels import ConditionOfModel, Label
from harness.system.messages import shown
from harness.threat import Norm

RESERVED = ("none", "worst_case")
"""What tables have in place of an attack's label: for no attack, and for the worst case over attacks."""
Precision = Literal["float32", "int8", "fp16"]
Metric = Literal[
    "accuracy", "clean_accuracy", "clean_accuracy_drop", "robust_accuracy", "attack_success_rate", "f1_macro", "roc_auc_macro"
]


class PluginEntry(Spec):
    """A plug-in with fields of the grid; in a suite file the fields of both stand side by side."""

    @model_validator(mode="before")
    @classmethod
    def _tell_the_fields_apart(cls, value: object) -> object:
        if isinstance(value, str):
            return {"plugin": value}
        if not isinstance(value, Mapping) or "plugin" in value:
            return value
        own = {key: value[key] for key in cls.model_fields if key in value}
        return {**own, "plugin": {key: found for key, found in value.items() if key not in own}}


class AttackEntry(PluginEntry):
    """One attack of the grid with its budgets."""

    plugin: Annotated[SerializeAsAny[Attack], BeforeValidator(ATTACKS.parse)]
    """The attack."""
    norm: Norm | None = None
    """Norm of the budgets; the suite's where it is left out."""
    eps: Annotated[tuple[Eps, ...], Field(min_length=1)] | None = None
    """Budgets; the suite's where they are left out."""
    protocol: Protocol | None = None
    """How the budgets relate; the suite's where it is left out."""
    models: Annotated[tuple[Label, ...], Field(min_length=1)] | None = None
    """Labels of the models that it attacks, each with its poisoned trainings; all where they are left out."""
    target_class: ClassName | None = None
    """The class that predictions shall become: the attack is targeted, and any other wrong class is no success."""

    def check_target(self, class_names: Sequence[str], *, where: str) -> None:
        """Refuses a target class that the data set has not, or that may be another one, by a SuiteError."""
        if self.target_class is not None and self.target_class not in class_names:
            near = suggestion(self.target_class, class_names)
            raise SuiteError(f"{where}.target_class: expected a class of the data set, got {self.target_class!r}{near}")
        if self.target_class is not None:
            class_index(self.target_class, class_names, where=f"{where}.target_class")


class PoisonEntry(PluginEntry):
    """One poison of the grid with the rates it is tried at."""

    plugin: Annotated[SerializeAsAny[Poison], BeforeValidator(POISONS.parse)]
    """The poison."""
    rates: Annotated[tuple[float, ...], Field(min_length=1)]
    """Shares of the training split, in (0, 1]."""
    seeds: int = Field(default=1, ge=1)
    """Number of repetitions at each rate; the first has the suite's seed, each further one the next seed. Success is
    measured on all of them, attacks and corruptions on the first."""

    @model_validator(mode="after")
    def _rates_are_shares(self) -> Self:
        if any(not 0 < rate <= 1 for rate in self.rates) or len(set(self.rates)) != len(self.rates):
            raise ValueError(f"rates: expected shares in (0, 1], each once, got {list(self.rates)}")
        return self


class DetectorEntry(PluginEntry):
    """One detector of the grid, tried on every poisoned training of some models."""

    plugin: Annotated[SerializeAsAny[Detector], BeforeValidator(DETECTORS.parse)]
    """The detector."""
    models: Annotated[tuple[Label, ...], Field(min_length=1)] | None = None
    """Labels of the models whose poisoned trainings it looks at; the suite's first model where they are left out."""
    retrain: bool = True
    """Whether the model is trained anew on what a detector of training examples leaves."""
    retrain_for: Annotated[tuple[Label, ...], Field(min_length=1)] | None = None
    """Labels of the poisons for which it is; all where they are left out."""

    @model_validator(mode="after")
    def _retrains_for_something(self) -> Self:
        if self.retrain_for is not None and not self.retrain:
            raise ValueError("retrain_for: expected no poisons beside retrain: false, got some")
        return self


class FolderEntry(Spec):
    """A folder of the user's own photographs, scored as they are: of another camera, another place, another season."""

    root: str
    """The folder; it holds `<Class>/*`, named as the data set's classes, all of them or some."""


def _read_shard(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """Returns a size of parts; what is none is one error, not one for each form that it may have."""
    try:
        return read(value)
    except ValidationError as error:
        raise ValueError(f"expected a whole number >= 1 or auto, got {shown(value)}") from error


Shard = Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], WrapValidator(_read_shard)]


class Evaluation(Spec):
    """Which examples are judged, and how."""

    split: Literal["validation", "test"] = "test"
    """The split that is scored."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Number of examples, drawn stratified by class and seed; all where it is left out."""
    protocol: Protocol = "nested"
    """nested: only examples without an adversarial image are attacked at the next budget; independent: all, at every budget;
    bisect: an example's smallest budget with an adversarial image is searched by halving, faster on hardened networks."""
    best_of_iterates: bool = True
    """Whether any iterate within the budget counts, not only the one that the attack returns."""
    compile: bool = False
    """Whether attacks differentiate a network compiled by torch.compile, which takes minutes, and then less for each pass."""
    precision: NumberFormat = "float32"
    """Number format of the attacks' passes, float32 or bfloat16; every success is judged in float32 all the same."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Images of a forward pass; chosen by the device where it is left out. Not part of any digest."""
    shard: Shard | None = None
    """Examples of a part: clean images, corruptions, folders, and attacks that keep examples apart, are then run by example, cut
    into parts that are steps of their own; the merged result is that of one part, however many there are. Others stay whole.
    Every pass then has the size of a full batch, so a part should hold several; which size changes the last digits. auto: what
    100,000 forward passes are enough for, so that short steps stay whole. See docs/architecture.md, "Conditions in parts"."""

    @property
    def inference(self) -> Inference:
        """The inference form: the copy of the network that attacks differentiate."""
        return Inference(compile=self.compile, precision=self.precision)

    @model_validator(mode="after")
    def _form_is_used(self) -> Self:
        if not self.best_of_iterates and (settings := self.inference.settings()):
            name, value = next(iter(settings.items()))
            expected = "nothing beside best_of_iterates: false, where attacks get the network as it is"
            raise ValueError(f"{name}: expected {expected}, got {value}")
        return self


class CrosscheckEntry(Spec):
    """Which stored images the exported models are scored on, and the rule by which they agree with PyTorch."""

    models: Annotated[tuple[Label, ...], Field(min_length=1)] | None = None
    """Labels of the models, each with its poisoned trainings; all where they are left out."""
    attacks: tuple[Label, ...] | None = None
    """Labels of the attacks; every one that steps along gradients where they are left out."""
    eps: Annotated[tuple[Eps, ...], Field(min_length=1)] | None = None
    """Which of the attacks' budgets; the middle one of each attack where they are left out."""
    corruptions: tuple[Label, ...] = ()
    """Labels of the corruptions."""
    severities: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """Which of the corruptions' severities; the middle one of each where they are left out."""
    limit: int = Field(default=200, ge=1)
    """Number of examples, drawn from those that the suite evaluates, and from each folder of images."""
    formats: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("float32", "int8", "fp16")
    """Precisions of the model files that are scored."""
    calibration: int = Field(default=128, ge=1)
    """Number of training images that the ranges of INT8 are taken from."""
    margin: float = Field(default=1e-3, ge=0)
    """A flip is allowed where PyTorch preferred its own class by no more than this, times the image's scale."""
    quantile_bound: float = Field(default=1e-3, ge=0)
    """Largest 99th percentile, over images, of the largest absolute difference of a logit, divided by the image's scale."""


class KeepEntry(Spec):
    """Which cells' attacked images are kept, beside their numbers."""

    attacks: Annotated[tuple[Label, ...], Field(min_length=1)]
    """Labels of the attacks; every model that they attack."""
    eps: Annotated[tuple[Eps, ...], Field(min_length=1)] | None = None
    """Which of the attacks' budgets; all where they are left out."""


class ThreatGrid(Spec):
    """The norm and the budgets of every attack that names none of its own."""

    norm: Norm = Norm.LINF
    """Norm of the budgets."""
    eps: Annotated[tuple[Eps, ...], Field(min_length=1)]
    """Budgets in pixel units of [0,1], written "8/255"."""


class TransferEntry(Spec):
    """Which adversarials of every model are also scored on every other model."""

    attack: Label
    """The attack's label."""
    eps: Eps
    """The budget, one of the attack's."""


class ExpectationEntry(Spec):
    """An assertion that the run checks and reports, about one number or the difference of two models."""

    model: Label
    """The model's label."""
    metric: Metric
    """The column of cells.csv, or clean_accuracy_drop: what the poison costs on clean images, against the same model trained
    on clean data with the same seed."""
    poison: Label | None = None
    """Label of the poison, for a model trained on it; the model on clean data where it is left out."""
    rate: float | None = None
    """The poison's rate, one of its rates. Where it is repeated, the mean over the repetitions counts."""
    condition: ConditionOfModel = CLEAN
    """The condition of the row, where no attack is named: clean, or the poison's trigger or target."""
    attack: Label | None = None
    """The attack's label; the row of `condition` where it is left out."""
    eps: Eps | None = None
    """The budget, one of the attack's."""
    at_least: Annotated[float, Field(le=1)] | None = None
    """Smallest value."""
    at_most: float | None = None
    """Largest value."""
    above: Label | None = None
    """Label of a model whose number in the same cell this one must exceed."""
    by: float = 0.0
    """By how much it must exceed it."""

    @model_validator(mode="after")
    def _asserts_something(self) -> Self:
        if self.at_least is None and self.at_most is None and self.above is None:
            raise ValueError("expected at_least, at_most or above, got none of them")
        if (self.attack is None) != (self.eps is None):
            raise ValueError("expected attack and eps together, or neither for the clean row")
        if (self.poison is None) != (self.rate is None):
            raise ValueError("expected poison and rate together, or neither for the model on clean data")
        if self.condition != CLEAN and (self.poison is None or self.attack is not None):
            raise ValueError(f"condition: expected a poison and no attack beside {self.condition!r}")
        if self.metric == "clean_accuracy_drop" and self.poison is None:
            raise ValueError("metric: expected a poison beside 'clean_accuracy_drop', got none")
        if self.metric == "clean_accuracy_drop" and (self.condition != CLEAN or self.attack is not None):
            given = self.attack or self.condition
            raise ValueError(f"metric: expected no attack or condition beside 'clean_accuracy_drop', got {given!r}")
        return self

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        if self.metric == "robust_accuracy" and self.attack is None:
            raise ValueError("metric: expected an attack and its eps beside 'robust_accuracy', got none")
        if self.metric == "attack_success_rate" and self.attack is None and self.condition == CLEAN:
            raise ValueError("metric: expected an attack, or a poison's condition, beside 'attack_success_rate', got none")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"expected at_least <= at_most, got {self.at_least:g} and {self.at_most:g}")
        return self
