"""Checks of a suite's requirements against its other parts: labels, budgets, severities, rates."""

from collections.abc import Iterable, Sequence

from harness.conditions import CLEAN
from harness.errors import SuiteError
from harness.spec import suggestion
from harness.suites.base import BaseSuite
from harness.suites.requirements import WORST_CASE, WORST_CLASS, RequirementEntry


def check_requirements(suite: BaseSuite) -> None:
    """Checks that every requirement is about something that the suite measures.

    Raises:
        ValueError: at the first that is not; begins with the field's path.
    """
    for number, entry in enumerate(suite.requirements):
        _check(suite, entry, f"requirements.{number}")


def check_required_classes(suite: BaseSuite, class_names: Sequence[str]) -> None:
    """Checks that the data set has every class that a requirement names.

    Raises:
        SuiteError: if it lacks one.
    """
    for number, entry in enumerate(suite.requirements):
        if entry.class_name not in (None, WORST_CLASS, *class_names):
            near = suggestion(str(entry.class_name), class_names)
            expected = f"expected {WORST_CLASS} or a class of the data set"
            raise SuiteError(f"requirements.{number}.class: {expected}, got {entry.class_name!r}{near}")


def _check(suite: BaseSuite, entry: RequirementEntry, where: str) -> None:
    for name in ("model", "above"):
        if (label := getattr(entry, name)) is not None:
            _expect(label, suite.models, f"{where}.{name}")
    if entry.model is None and entry.above is not None and set(suite.models) == {entry.above}:
        raise ValueError(f"{where}.above: expected another model to compare it with, got the only one")
    if entry.attack is not None:
        _check_attack(suite, entry, where)
    if entry.corruption is not None:
        _expect(entry.corruption, suite.corruptions, f"{where}.corruption")
        if entry.severity is not None:
            _expect(str(entry.severity), map(str, suite.corruptions[entry.corruption].severities), f"{where}.severity")
    if entry.metric == "mean_corruption_accuracy" and not suite.corruptions:
        raise ValueError(f"{where}.metric: expected corruptions in the suite, got none")
    if entry.folder is not None:
        _expect(entry.folder, suite.folders, f"{where}.folder")
    if entry.poison is not None:
        _check_poison(suite, entry, where)


def _check_attack(suite: BaseSuite, entry: RequirementEntry, where: str) -> None:
    """Checks label and budget; the worst case is known where an untargeted attack has the budget, in one norm."""
    attack, worst = str(entry.attack), entry.attack == WORST_CASE
    _expect(attack, [WORST_CASE, *suite.attacks], f"{where}.attack")
    labels = [label for label, it in suite.attacks.items() if it.target_class is None] if worst else [attack]
    threats = [threat for label in labels for threat in suite.threat_models(label) if entry.norm in (None, threat.norm)]
    _expect(str(entry.eps), dict.fromkeys(str(threat.eps) for threat in threats), f"{where}.eps")
    norms = sorted({threat.norm.value for threat in threats if threat.eps == entry.eps})
    if worst and len(norms) > 1:
        raise ValueError(f"{where}.norm: expected one of {', '.join(norms)}, as each has the budget {entry.eps}, got none")
    for name, model in (("model", entry.model), ("above", entry.above)):
        if model is not None and not any(suite.attacks_model(label, model) for label in labels):
            raise ValueError(f"{where}.{name}: expected a model that {attack} attacks, got {model!r}")


def _check_poison(suite: BaseSuite, entry: RequirementEntry, where: str) -> None:
    for name, model in (("model", entry.model), ("above", entry.above)):
        if model is not None and entry.poison not in suite.poisons_of(model):
            known = ", ".join(suite.poisons_of(model)) or "none"
            raise ValueError(f"{where}.poison: expected a poison of {name} {model!r}: {known}, got {entry.poison!r}")
    _expect(str(entry.poison), suite.poisons, f"{where}.poison")
    poison = suite.poisons[str(entry.poison)]
    _expect(str(entry.rate), map(str, poison.rates), f"{where}.rate")
    _expect(entry.condition, [CLEAN, *poison.plugin.conditions], f"{where}.condition")


def _expect(value: str, known: Iterable[str], where: str) -> None:
    if value not in (names := list(known)):
        raise ValueError(f"{where}: expected one of {', '.join(names) or 'none here'}, got {value!r}")
