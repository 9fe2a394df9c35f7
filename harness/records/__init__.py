"""The values that results are made of: grid cells, per-example outcomes, and the schema of cells.csv."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from harness.conditions import CLEAN, ConditionKind, condition_kind
from harness.records.outcome import ConditionResult, Outcome
from harness.spec import LATER, Eps, Spec

__all__ = [
    "CELL_COLUMNS",
    "CUMULATIVE",
    "FINISHED",
    "SCHEMA_VERSION",
    "Cell",
    "CellResult",
    "ConditionResult",
    "DetectionResult",
    "Expectation",
    "Outcome",
    "PoisonedSet",
    "Protocol",
    "RunRecord",
    "Status",
    "TransferRow",
    "Verdict",
]

Protocol = Literal["nested", "independent", "bisect"]
"""Whether only examples on which no attack succeeded go on to the next budget, every budget starts from scratch, or an example's
smallest budget with a success is searched by halving."""

CUMULATIVE: tuple[Protocol, ...] = ("nested", "bisect")
"""The protocols under which a success at a budget counts at all larger ones."""

SCHEMA_VERSION = 1
"""Version of the tables and payloads described here; written into provenance.json and every payload."""

AUDIT_COLUMNS = ("robust_accuracy_floor", "audit_n", "audit_broken")
"""Columns of an audited attack, in every table that has its robust accuracy; see `CELL_COLUMNS`."""

CELL_COLUMNS = (
    *("dataset", "model", "arch", "recipe", "poison", "poison_rate", "target_class"),
    *(
        "condition",
        "attack",
        "targeted",
        "norm",
        "eps",
        "alpha",
        "steps",
        "restarts",
        "corruption",
        "corruption_group",
        "severity",
        "protocol",
        "seed",
        "n_examples",
    ),
    *("accuracy", "accuracy_low", "accuracy_high", "clean_accuracy", "robust_accuracy", "attack_success_rate"),
    *("conclusive", *AUDIT_COLUMNS),
    *("precision_macro", "recall_macro", "f1_macro", "roc_auc_macro", "max_violation"),
    *("forwards", "backwards", "seconds", "peak_memory_mb", "verdict", "verdict_reasons", "status", "reason", "digest"),
)
"""Columns of cells.csv, in order; those of a cell are explained in `Cell`, those of passes and memory in `ConditionResult`.

`robust_accuracy` is the share of examples that are correct when clean and not adversarial under the attack. Where `targeted`,
only the target class is a success: an example that ends in another wrong class counts as robust, and so does every example of
the target class, which is not attacked. `attack_success_rate` is the share of successes among initially correct examples; of a
targeted attack or a poison only those of other classes than the target count. Where no such example exists, the attack has no
numbers: its `status` is skipped, and `reason` says why.

`conclusive` says whether the attack is strong enough for a headline number: AutoAttack standard with the original's budgets, or
audited by it. Robust accuracy under any other attack is an upper bound.

An audited attack has `audit_n`, the number of examples without success that AutoAttack standard attacked, too, without success;
`audit_broken`, the number on which the standard succeeded before the attack escalated; and `robust_accuracy_floor`, the robust
accuracy that the standard leaves at least, with 95 % confidence.
"""


class Status(StrEnum):
    """The state of a cell or a step."""

    DONE = "done"
    CACHED = "cached"
    SKIPPED = "skipped"
    FAILED = "failed"
    NOT_RUN = "not_run"


FINISHED = (Status.DONE, Status.CACHED)
"""The states of steps that have a result, and of cells that have numbers."""


class Verdict(StrEnum):
    """The attack check: what the sanity checks say of a number."""

    PASS = "PASS"
    SUSPECT = "SUSPECT"
    INVALID = "INVALID"


class Cell(Spec):
    """One row of the grid: a model under one condition. A field that does not apply is None."""

    dataset: str
    """Name of the data set."""
    model: str
    """The model's label in the suite."""
    arch: str
    """Architecture name."""
    recipe: str
    """Name of the training recipe; "given" for a finished model."""
    poison: str | None = None
    """Label of the training set's poison."""
    poison_rate: float | None = None
    """Share of the training set that is poisoned, as asked for."""
    target_class: str | None = None
    """The class that a targeted attack aims at, else the model's poison."""
    condition: Annotated[str, AfterValidator(lambda name: condition_kind(name).name)] = CLEAN
    """What kind of images the model is scored on, see `harness.conditions`."""
    attack: str = "none"
    """The label in the suite of the attack, or of the folder of images; or none."""
    targeted: bool = Field(default=False, json_schema_extra=LATER)
    """Whether the attack succeeds only by reaching `target_class`."""
    norm: str | None = None
    """Norm of the budget."""
    eps: Eps | None = None
    """Budget in pixel units of [0,1]."""
    alpha: float | None = None
    """The attack's step size at this budget."""
    steps: int | None = None
    """The attack's number of steps."""
    restarts: int | None = None
    """The attack's number of restarts."""
    corruption: str | None = None
    """Name of the corruption."""
    corruption_group: str | None = None
    """What the corruption happens to: noise, blur, weather, digital, geometry or encoding; it follows from the name."""
    severity: int | None = None
    """Severity of the corruption, 1 to 5."""
    protocol: Protocol | None = None
    """How the budgets of a sweep relate."""
    seed: int = 0
    """The seed of the model's training and of its poison."""

    @property
    def kind(self) -> ConditionKind:
        """What kind of condition it is."""
        return condition_kind(self.condition)


@dataclass(frozen=True)
class CellResult:
    """A cell with what became of it; without a condition where it is skipped, failed or was not run."""

    cell: Cell
    digest: str
    """Unique among the cells of a run."""
    status: Status
    reason: str = ""
    """Why the cell has no numbers, in one line."""
    labels: NDArray[np.int64] | None = None
    """True class indices (N,)."""
    clean_logits: NDArray[np.float32] | None = None
    """Logits (N, K) of the same model on the unperturbed images."""
    condition: ConditionResult | None = None
    """The results under this cell's condition."""
    smallest_eps: NDArray[np.float32] | None = None
    """(N,) see `Outcome.smallest_eps`."""
    verdict: Verdict | None = None
    """What the attack check says of the number."""
    verdict_reasons: tuple[str, ...] = ()
    """One short reason a finding."""
    example_ids: tuple[str, ...] | None = None
    """Names of the examples (N,) where they are others than those of the run."""
    example_hashes: tuple[str, ...] | None = None
    """Content hashes of these examples (N,)."""


@dataclass(frozen=True)
class PoisonedSet:
    """What was poisoned for the training of one model, by its manifest."""

    cell: Cell
    """The model's clean row."""
    manifest: str
    """Path of the manifest, relative to the results folder."""
    digest: str
    """Digest of the step that poisoned."""
    training_examples: int
    poisoned: int
    """How many of them are poisoned."""
    largest_change: float
    """Largest change of a pixel value (Linf), over all examples."""
    changed_pixels: int
    """Largest number of changed pixels of an example."""
    trigger_sha256: str | None
    targets: int | None
    """Number of test images that the poison aims at; None where it aims at none."""


@dataclass(frozen=True)
class DetectionResult:
    """What a detector found in one poisoned training, and the scores of the model trained anew on what it left."""

    cell: Cell
    """The clean row of the poisoned model."""
    detector: str
    """The detector's label."""
    images: Literal["training", "run time"]
    """Which images it judged."""
    status: Status
    """The worst status of its steps."""
    reason: str = ""
    digest: str | None = None
    """Digest of the detection's step."""
    score: Mapping[str, Any] | None = None
    """The fields of a `DetectorScore`, as plain values."""
    control: Mapping[str, Any] | None = None
    """The same of the clean control: on a model and data that nobody poisoned."""
    after: tuple[CellResult, ...] = ()
    """The model trained anew: its clean row, and the one on its poison's trigger or targets."""


@dataclass(frozen=True)
class Expectation:
    """An assertion of the suite with what the run found."""

    text: str
    """The assertion in words."""
    holds: bool | None
    """Whether it held; None where a cell that it needs has no number."""
    found: str
    """The numbers that decided it."""


@dataclass(frozen=True)
class TransferRow:
    """A row of transfer.csv: one model on the adversarials that were made on another."""

    source: str
    """Label of the model that the images were made on."""
    target: str
    """Label of the model that is scored on them."""
    attack: str
    """The attack's label."""
    norm: str
    """Norm of the budget."""
    eps: float
    """Budget in pixel units of [0,1]."""
    accuracy: float
    """Share of the images that the target classifies correctly."""
    attack_success_rate: float
    """Share of misclassified images among those whose clean versions the target classifies correctly."""
    n_examples: int
    """Number of images."""
    eligible: int
    """Those of them whose clean versions the target classifies correctly."""


@dataclass(frozen=True)
class RunRecord:
    """The results of a run: the input of every table, curve and page."""

    suite: Mapping[str, Any]
    """The suite as validated, in plain values; has the keys name, title, description."""
    cells: tuple[CellResult, ...]
    class_names: tuple[str, ...]
    example_ids: tuple[str, ...]
    """Readable names of the evaluated examples (N,)."""
    example_hashes: tuple[str, ...]
    """Content hashes of the evaluated examples (N,)."""
    histories: Mapping[str, tuple[Mapping[str, float], ...]]
    """Model label -> one mapping an epoch: epoch, train_loss, train_accuracy, validation_accuracy, ..."""
    trainings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Model label -> summary of its training, see `harness.training.history.summarise`."""
    expectations: tuple[Expectation, ...] = ()
    transfers: tuple[TransferRow, ...] = ()
    """The accuracy of every model on the adversarial images of the others."""
    poisoned: tuple[PoisonedSet, ...] = ()
    """Of each poisoned model whose data were made."""
    detections: tuple[DetectionResult, ...] = ()
    controls: tuple[CellResult, ...] = ()
    """Clean controls: the clean row of the same model trained on clean data, for every seed of a poison's further repetitions."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Versions, git commit, host, device, seeds, data hashes, duplicates across splits, seconds."""
