"""The fields of a suite, and what is looked up in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, SerializeAsAny

from harness.corruptions.base import CORRUPTIONS, Corruption
from harness.datasets.base import DATASETS, Dataset
from harness.errors import ModelError, SuiteError, naming
from harness.models.adapter import Adapter
from harness.models.base import Architecture
from harness.models.files import classes_in, with_weights
from harness.onnxfile.architecture import OnnxFile, metadata_in
from harness.records import Protocol
from harness.spec import Eps, Spec
from harness.suites.entries import (
    AttackEntry,
    CrosscheckEntry,
    DetectorEntry,
    Evaluation,
    ExpectationEntry,
    FolderEntry,
    KeepEntry,
    PoisonEntry,
    ThreatGrid,
    TransferEntry,
)
from harness.suites.labels import Label
from harness.suites.models import ArchitectureField, ModelEntry
from harness.suites.requirements import RequirementEntry
from harness.threat import Norm, ThreatModel, expect_pixel_budget

if TYPE_CHECKING:
    from harness.onnxfile.twin import Twin


class Variant(NamedTuple):
    """A model of the grid as it is trained: on the clean data, or on data with one poison at one rate."""

    model: str
    poison: str | None = None
    rate: float | None = None
    repetition: int = 0
    """Which of the poison's repetitions it is; each has a seed of its own."""

    @property
    def name(self) -> str:
        """Its name on the command line: the label, or "baseline@backdoor@0.05", with "@1" behind it for the second repetition."""
        poisoned = "" if self.rate is None else f"@{self.poison}@{self.rate:g}"
        return f"{self.model}{poisoned}" + (f"@{self.repetition}" if self.repetition else "")

    @property
    def title(self) -> str:
        """The name of its training in titles, e.g. "baseline, backdoor 5 %, repetition 1"."""
        poisoned = "" if self.rate is None else f", {self.poison} {100 * self.rate:g} %"
        return f"{self.model}{poisoned}" + (f", repetition {self.repetition}" if self.repetition else "")


class BaseSuite(Spec):
    """A suite whose parts are not yet checked against each other; `Suite` checks them."""

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
    reference_budget: Eps | None = None
    """The budget that the leaderboard compares models at; the middle one of the sweep where it is left out."""
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
    keep: KeepEntry | None = None
    """Cells whose attacked images are kept as files; none where it is left out. Such an attack is run twice."""
    transfer: tuple[TransferEntry, ...] = ()
    """Attacks whose adversarials, made on each model, are scored on all models: one matrix each."""
    expectations: tuple[ExpectationEntry, ...] = ()
    """Claims about point values that a run checks, without an interval."""
    requirements: tuple[RequirementEntry, ...] = ()
    """What must be shown before a model may ship: the confidence interval decides."""

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
        entry = self.models[model]
        if entry.is_finished:
            return ()
        return tuple(self.poisons) if entry.poisons is None else entry.poisons

    @property
    def trained(self) -> tuple[str, ...]:
        """The labels of the models that are trained; the others are finished."""
        return tuple(label for label, entry in self.models.items() if not entry.is_finished)

    @property
    def finished(self) -> tuple[str, ...]:
        """The labels of the models that are judged as they are."""
        return tuple(label for label, entry in self.models.items() if entry.is_finished)

    def attacks_model(self, attack: str, model: str) -> bool:
        """Returns whether the attack of a label is meant for the model of a label."""
        named = self.attacks[attack].models
        return named is None or model in named

    def models_of(self, detector: str) -> tuple[str, ...]:
        """Returns the labels of the models whose poisoned trainings a detector looks at."""
        return self.detectors[detector].models or (self.trained or tuple(self.models))[:1]

    def trains_anew(self, detector: str, poison: str) -> bool:
        """Returns whether what a detector leaves of a training set with some poison is trained on anew."""
        entry = self.detectors[detector]
        return entry.retrain and not entry.plugin.RUN_TIME and (entry.retrain_for is None or poison in entry.retrain_for)

    def seed_of(self, variant: Variant) -> int:
        """Returns the seed that a model of the grid is poisoned and trained with."""
        return self.seed + variant.repetition

    def architecture_of(self, label: str) -> Architecture:
        """Returns the architecture of a model: its own, else the suite's; of a finished one with its weights.

        Raises:
            ValueError: if neither names one, nor the file of a finished model.
        """
        entry = self.models[label]
        named = entry.architecture or self.architecture
        if entry.onnx is not None:
            return OnnxFile(weights=entry.onnx)
        if entry.weights is not None:
            return with_weights(named, entry.weights, own=entry.architecture is not None, where=f"models.{label}")
        if named is None:
            raise ValueError(f"models.{label}.architecture: required, as the suite names none for all models")
        return named

    def adapter_of(self, label: str) -> Adapter:
        """Returns what stands around a finished model; files that `harness export` wrote name their classes themselves.

        Raises:
            ModelError: if a file cannot be read; begins with the field's path.
        """
        entry = self.models[label]
        with naming(f"models.{label}.", ModelError):
            adapter, weights = entry.adapter(), self.architecture_of(label).weights
            return adapter if weights is None else _with_classes_in(weights, adapter)

    def twin_architecture_of(self, label: str) -> Architecture | None:
        """Returns the architecture of what an ONNX file was made from, with its weights; None where none is named.

        Raises:
            ValueError: if it is no finished model of PyTorch, or has no architecture; begins with the field's path.
        """
        entry, where = self.models[label], f"models.{label}"
        if entry.twin is None:
            return None
        if entry.twin not in self.models:
            named = entry.architecture or self.architecture
            return with_weights(named, entry.twin, own=entry.architecture is not None, where=where, field="twin")
        other = self.models[entry.twin]
        if not other.is_finished or other.onnx is not None:
            kind = "an ONNX file" if other.is_finished else "which is trained"
            raise ValueError(f"{where}.twin: expected a finished model of PyTorch or a file, got {entry.twin!r}, {kind}")
        return self.architecture_of(entry.twin)

    def twin_of(self, label: str) -> "Twin | None":
        """Returns what an ONNX file was made from; None where none is named.

        Raises:
            ModelError: if a file cannot be read; begins with the field's path.
        """
        from harness.onnxfile.twin import Twin

        entry, architecture = self.models[label], self.twin_architecture_of(label)
        if architecture is None or entry.twin is None:
            return None
        if entry.twin in self.models:
            return Twin(entry.twin, architecture, self.adapter_of(entry.twin))
        with naming(f"models.{label}.twin: ", ModelError):
            adapter = _with_classes_in(entry.twin, Adapter(classes=entry.adapter().classes))
        return Twin(Path(entry.twin).name, architecture, adapter)

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
        expect_pixel_budget(norm, max(budgets), where=where)
        targeted = entry.target_class is not None
        return tuple(ThreatModel(norm=norm, eps=eps, targeted=targeted) for eps in sorted(budgets))

    def protocol_of(self, label: str) -> Protocol:
        """Returns the protocol of an attack: its own, else the suite's."""
        return self.attacks[label].protocol or self.evaluation.protocol

    def _architectures(self) -> Iterator[tuple[str, Architecture]]:
        """Yields every architecture that is named, with the path of its field."""
        files = {label: bool(entry.weights or entry.onnx) for label, entry in self.models.items()}
        own = {
            f"models.{label}.architecture": self.models[label].architecture for label, has_file in files.items() if not has_file
        }
        own |= {f"models.{label}": self.architecture_of(label) for label, has_file in files.items() if has_file}
        own |= {f"models.{label}.twin": self.twin_architecture_of(label) for label in self.models}
        for where, architecture in {"architecture": self.architecture, **own}.items():
            if architecture is not None:
                yield where, architecture


def _with_classes_in(file: str, adapter: Adapter) -> Adapter:
    """Returns an adapter with the classes that a file names, where it names none itself."""
    if adapter.classes is not None:
        return adapter
    metadata = metadata_in(file)
    stated = classes_in(file) if metadata is None else metadata.class_names
    return adapter if stated is None else adapter.model_copy(update={"classes": stated})
