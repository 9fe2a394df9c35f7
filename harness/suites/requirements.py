"""A requirement of a suite: what must be shown of a model before it may ship."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from harness.conditions import CLEAN
from harness.spec import Eps, Spec
from harness.suites.labels import ConditionOfModel
from harness.threat import Norm

WORST_CASE, WORST_CLASS = "worst_case", "worst_class"
"""In place of an attack's label: all attacks together, example by example. In place of a class: the one that does worst."""
PAIRED = ("accuracy", "clean_accuracy", "robust_accuracy", "recall")
"""Metrics of which two models can be compared on the same examples."""
OF_CLASSES = ("recall", "robust_accuracy")
OF_RUNTIMES = ("accuracy", "robust_accuracy", "agreement")

RequirementMetric = Literal[
    "accuracy",
    "clean_accuracy",
    "robust_accuracy",
    "attack_success_rate",
    "recall",
    "mean_corruption_accuracy",
    "agreement",
]
RuntimeName = Literal["PyTorch", "ONNX Runtime (Python)", "ONNX Runtime (C++)"]
Label = Annotated[str, Field(min_length=1, max_length=60)]
Share = Annotated[float, Field(ge=0, le=1)]
ClassLabel = Annotated[str, Field(coerce_numbers_to_str=True)]


class RequirementEntry(Spec):
    """What must be shown about one metric: its confidence interval decides, not its value."""

    model_config = ConfigDict(populate_by_name=True)

    metric: RequirementMetric
    """A column of the tables: of cells.csv, per_class.csv (recall), leaderboard.csv (mean_corruption_accuracy) or
    crossruntime.csv (agreement)."""
    model: Label | None = None
    """The model's label; every model where it is left out."""
    poison: Label | None = None
    """Label of the poison, for a model trained on it; the model on clean data where it is left out."""
    rate: float | None = None
    """The poison's rate, one of its rates; each repetition must meet the requirement."""
    condition: ConditionOfModel = CLEAN
    """clean, or the poison's trigger or target, where no attack, corruption or folder is named."""
    attack: Label | None = None
    """The attack's label, or worst_case."""
    eps: Eps | None = None
    """The budget, one of the attack's."""
    norm: Norm | None = None
    """Norm of the budget, beside worst_case; the only one that has this budget where it is left out."""
    corruption: Label | None = None
    """The corruption's label."""
    severity: Annotated[int, Field(ge=1)] | None = None
    """Its severity; the mean over its severities where it is left out."""
    folder: Label | None = None
    """Label of a folder of other images."""
    class_name: ClassLabel | None = Field(default=None, alias="class")
    """Name of the class that the metric is of, or worst_class: written `class` in a suite file."""
    runtime: RuntimeName | None = None
    """The runtime that the exported file is scored in, by the cross-check."""
    precision: Literal["float32", "int8", "fp16"] | None = None
    """Precision of that file."""
    at_least: Share | None = None
    """Smallest value."""
    at_most: Share | None = None
    """Largest value."""
    above: Label | None = None
    """Label of a model whose value on the same examples this one must exceed."""
    by: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """By how much it must exceed it."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Confidence of the interval."""
    strong: Literal["required"] | None = None
    """Whether the attack must be conclusive: AutoAttack standard with the original's budgets, or audited by it."""

    @property
    def place(self) -> str | None:
        """Returns what the images are, beside clean: an attack, a corruption, a folder or a poison's condition."""
        return self.attack or self.corruption or self.folder or (None if self.condition == CLEAN else self.condition)

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.at_least is None and self.at_most is None and self.above is None:
            raise ValueError("expected at_least, at_most or above, got none of them")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"expected at_least <= at_most, got {self.at_least:g} and {self.at_most:g}")
        if self.by and self.above is None:
            raise ValueError(f"by: expected above beside it, got by: {self.by:g} alone")
        return self

    @model_validator(mode="after")
    def _has_one_condition(self) -> Self:
        named = [name for name in ("attack", "corruption", "folder") if getattr(self, name) is not None]
        named += [] if self.condition == CLEAN else ["condition"]
        if len(named) > 1:
            raise ValueError(f"expected one of attack, corruption, folder and condition, got {' and '.join(named)}")
        _together(self, "attack", "eps")
        _together(self, "poison", "rate")
        _together(self, "runtime", "precision")
        if self.severity is not None and self.corruption is None:
            raise ValueError("severity: expected a corruption beside it, got none")
        if self.norm is not None and self.attack != WORST_CASE:
            raise ValueError(f"norm: expected attack: {WORST_CASE} beside it, as another attack has its own, got {self.attack!r}")
        if self.condition != CLEAN and self.poison is None:
            raise ValueError(f"condition: expected a poison beside {self.condition!r}, got none")
        if self.strong and self.attack is None:
            raise ValueError("strong: expected an attack beside it, got none")
        return self

    @model_validator(mode="after")
    def _metric_fits(self) -> Self:
        self._check_metric_of_condition()
        if self.class_name is not None and self.metric not in OF_CLASSES:
            raise ValueError(f"class: expected the metric {' or '.join(OF_CLASSES)} beside it, got {self.metric!r}")
        if self.metric == "recall" and self.class_name is None:
            raise ValueError("metric: expected a class beside 'recall', or accuracy for all classes together")
        if self.runtime is None and self.metric == "agreement":
            raise ValueError("metric: expected a runtime beside 'agreement', got none")
        if self.runtime is not None:
            self._check_runtime()
        if self.above is not None:
            self._check_rival()
        return self

    def _check_metric_of_condition(self) -> None:
        if self.metric == "robust_accuracy" and self.attack is None:
            raise ValueError("metric: expected an attack and its eps beside 'robust_accuracy', got none")
        if self.metric == "attack_success_rate" and self.attack is None and self.condition == CLEAN:
            raise ValueError("metric: expected an attack, or a poison's condition, beside 'attack_success_rate', got none")
        if self.metric in ("clean_accuracy", "mean_corruption_accuracy") and self.place is not None:
            raise ValueError(f"metric: expected no condition beside {self.metric!r}, got {self.place!r}")
        if self.attack == WORST_CASE and self.metric not in ("robust_accuracy", "attack_success_rate"):
            raise ValueError(f"metric: expected robust_accuracy or attack_success_rate beside {WORST_CASE}, got {self.metric!r}")

    def _check_runtime(self) -> None:
        if self.metric not in OF_RUNTIMES:
            raise ValueError(f"metric: expected {', '.join(OF_RUNTIMES)} beside a runtime, got {self.metric!r}")
        unfit: dict[str, Any] = {"class": self.class_name, "above": self.above}
        unfit |= {"attack": self.attack if self.attack == WORST_CASE else None}
        unfit |= {"severity": "none" if self.corruption is not None and self.severity is None else None}
        for name, value in unfit.items():
            if value is not None:
                raise ValueError(f"{name}: expected one row of crossruntime.csv beside a runtime, got {name}: {value}")

    def _check_rival(self) -> None:
        if self.metric not in PAIRED:
            raise ValueError(f"above: expected the metric {', '.join(PAIRED)}, got {self.metric!r}")
        if self.class_name == WORST_CLASS:
            raise ValueError(f"above: expected one class beside it, got {WORST_CLASS}")
        if self.corruption is not None and self.severity is None:
            raise ValueError("above: expected a severity beside the corruption, got none")
        if self.above == self.model:
            raise ValueError(f"above: expected another model, got {self.above!r} itself")


def _together(entry: RequirementEntry, one: str, other: str) -> None:
    if (getattr(entry, one) is None) != (getattr(entry, other) is None):
        missing = one if getattr(entry, one) is None else other
        raise ValueError(f"{missing}: expected {one} and {other} together, or neither")
