"""Checks of the parts of a suite against each other: labels, budgets, recipes, detectors, expectations."""

from collections.abc import Collection
from fractions import Fraction

from harness.conditions import CLEAN
from harness.suites.base import BaseSuite
from harness.suites.entries import RESERVED, ExpectationEntry, TransferEntry
from harness.threat import Norm
from harness.training.recipes.adversarial import AdversarialRecipe


def check_parts(suite: BaseSuite) -> None:
    """Checks that the parts of a suite fit each other.

    Raises:
        ValueError: at the first that does not; begins with the field's path.
    """
    for label in suite.models:
        _check_finished(suite, label)
        suite.architecture_of(label)
        suite.twin_architecture_of(label)
        _check_warm_start(suite, label)
        _check_teacher(suite, label)
        _check_training_images(suite, label)
        for poison in suite.models[label].poisons or ():
            _expect_one_of(poison, suite.poisons, f"models.{label}.poisons")
    if suite.trained and getattr(suite.dataset, "held_out", False):
        found = f"got {suite.trained[0]!r}, which would be trained on images that it is judged on"
        raise ValueError(f"dataset.held_out: expected finished models alone beside true, {found}")
    if suite.poisons and not suite.trained:
        raise ValueError("poisons: expected a model with a recipe that is trained on them, got finished models alone")
    for label in suite.detectors:
        _check_detector(suite, label)
    _check_labels(suite)
    seen: dict[str, str] = {}
    for label, entry in suite.attacks.items():
        for model in entry.models or ():
            _expect_one_of(model, suite.models, f"attacks.{label}.models")
        _check_budgets(suite, label)
        _check_protocol(suite, label)
        first = seen.setdefault(entry.model_dump_json(), label)
        if first != label:
            raise ValueError(f"attacks.{label}: expected an attack of its own, got the same as attacks.{first}")
    _check_reference_budget(suite)
    for number, transfer in enumerate(suite.transfer):
        _check_transfer(suite, transfer, f"transfer.{number}")
    for number, expectation in enumerate(suite.expectations):
        _check_expectation(suite, number, expectation)
    _check_crosscheck(suite)
    _check_keep(suite)


def _check_keep(suite: BaseSuite) -> None:
    if suite.keep is None:
        return
    for label in suite.keep.attacks:
        _expect_one_of(label, suite.attacks, "keep.attacks")
    budgets = {str(threat.eps) for label in suite.keep.attacks for threat in suite.threat_models(label)}
    for eps in suite.keep.eps or ():
        _expect_one_of(str(eps), sorted(budgets), "keep.eps")


def _check_protocol(suite: BaseSuite, label: str) -> None:
    if suite.protocol_of(label) == "bisect" and not suite.evaluation.best_of_iterates:
        where = f"attacks.{label}" if suite.attacks[label].protocol else "evaluation"
        raise ValueError(f"{where}.protocol: expected nested or independent beside best_of_iterates: false, got bisect")


def _check_budgets(suite: BaseSuite, label: str) -> None:
    budgets = [threat.eps for threat in suite.threat_models(label)]
    try:
        suite.attacks[label].plugin.check_budgets(budgets)
    except ValueError as problem:
        raise ValueError(f"attacks.{label}.{problem}") from problem


def _check_reference_budget(suite: BaseSuite) -> None:
    """Refuses a reference that no worst case is measured at: it is taken in one norm, at budgets of untargeted attacks."""
    if suite.reference_budget is None:
        return
    threats = [threat for label in suite.attacks for threat in suite.threat_models(label) if not threat.targeted]
    norm = next((norm for norm in Norm if any(threat.norm is norm for threat in threats)), None)
    budgets = sorted({threat.eps for threat in threats if threat.norm is norm})
    _expect_one_of(str(suite.reference_budget), [str(eps) for eps in budgets], "reference_budget")


def _check_finished(suite: BaseSuite, label: str) -> None:
    """Refuses a model without a recipe that names no weights of its own: nothing would say whether one was forgotten."""
    entry = suite.models[label]
    if not entry.is_finished or entry.weights is not None or entry.onnx is not None:
        return
    own = entry.architecture
    if own is None:
        found = "a model without one is finished, and names its weights or a factory"
        raise ValueError(f"models.{label}.recipe: required field is missing; {found}")
    if own.name == "timm" and own == own.without_weights():
        raise ValueError(f"models.{label}.weights: required, as a model without a recipe is finished, and {own.arch} has none")


def _check_warm_start(suite: BaseSuite, label: str) -> None:
    chain = [label]
    while (parent := suite.models[chain[-1]].warm_start) is not None:
        where = f"models.{chain[-1]}.warm_start"
        _expect_one_of(parent, [other for other in suite.models if parent in chain or other not in chain], where)
        if parent in chain:
            raise ValueError(f"{where}: expected a chain that ends, got {' -> '.join([*chain, parent])}")
        if suite.models[parent].is_finished:
            hint = "architecture.weights starts a training from a file"
            raise ValueError(f"{where}: expected a model with a recipe, got {parent!r}, which is finished; {hint}")
        if suite.architecture_of(parent).structure() != suite.architecture_of(label).structure():
            raise ValueError(f"{where}: expected a model of the same architecture and arguments, got {parent}'s")
        chain.append(parent)


def _check_teacher(suite: BaseSuite, label: str) -> None:
    entry = suite.models[label]
    if entry.warm_start is None and isinstance(entry.recipe, AdversarialRecipe) and entry.recipe.distil:
        where = f"models.{label}.recipe.distil"
        raise ValueError(f"{where}: expected a warm_start beside it, whose model is the teacher, got none")


def _check_training_images(suite: BaseSuite, label: str) -> None:
    recipe, where = suite.models[label].recipe, f"models.{label}.recipe"
    if recipe is None:
        return
    if recipe.validation == "learned" and suite.poisons_of(label):
        expected = "expected held_out for a model with poisons, whose rates are shares of the training split"
        raise ValueError(f"{where}.validation: {expected}, got learned")
    if recipe.progressive is not None and recipe.progressive.resolution >= (full := suite.dataset.resolution):
        expected = f"expected fewer pixels than the data set's {full}"
        raise ValueError(f"{where}.progressive.resolution: {expected}, got {recipe.progressive.resolution}")


def _check_labels(suite: BaseSuite) -> None:
    taken = [f"{family}.{label}" for family in ("attacks", "folders") for label in RESERVED if label in getattr(suite, family)]
    if taken:
        raise ValueError(f"{taken[0]}: expected another label, as the tables use {' and '.join(RESERVED)} themselves")


def _check_detector(suite: BaseSuite, label: str) -> None:
    for model in suite.models_of(label):
        _expect_one_of(model, suite.models, f"detectors.{label}.models")
        if not suite.poisons_of(model):
            raise ValueError(f"detectors.{label}.models: expected models with poisons to detect, got {model!r} without any")
    offered = {poison for model in suite.models_of(label) for poison in suite.poisons_of(model)}
    for poison in suite.detectors[label].retrain_for or ():
        _expect_one_of(poison, sorted(offered), f"detectors.{label}.retrain_for")


def _check_crosscheck(suite: BaseSuite) -> None:
    entry, where = suite.crosscheck, "crosscheck"
    for label in entry.models or ():
        _expect_one_of(label, suite.models, f"{where}.models")
    for label in entry.attacks or ():
        _expect_one_of(label, suite.attacks, f"{where}.attacks")
    for label in entry.corruptions:
        _expect_one_of(label, suite.corruptions, f"{where}.corruptions")
    offered = {severity for label in entry.corruptions for severity in suite.corruptions[label].severities}
    for severity in entry.severities or ():
        _expect_one_of(str(severity), sorted(map(str, offered)), f"{where}.severities")
    budgets = {str(threat.eps) for label in entry.attacks or suite.attacks for threat in suite.threat_models(label)}
    for eps in entry.eps or ():
        _expect_one_of(str(eps), sorted(budgets), f"{where}.eps")


def _check_expectation(suite: BaseSuite, number: int, expectation: ExpectationEntry) -> None:
    where = f"expectations.{number}"
    _expect_one_of(expectation.model, suite.models, f"{where}.model")
    if expectation.above is not None:
        _expect_one_of(expectation.above, suite.models, f"{where}.above")
    if expectation.attack is not None and expectation.eps is not None:
        _check_budget(suite, expectation.attack, expectation.eps, where)
    if expectation.poison is not None:
        _expect_one_of(expectation.poison, suite.poisons_of(expectation.model), f"{where}.poison")
        poison = suite.poisons[expectation.poison]
        _expect_one_of(str(expectation.rate), [str(rate) for rate in poison.rates], f"{where}.rate")
        _expect_one_of(expectation.condition, [CLEAN, *poison.plugin.conditions], f"{where}.condition")


def _check_transfer(suite: BaseSuite, transfer: TransferEntry, where: str) -> None:
    _check_budget(suite, transfer.attack, transfer.eps, where)
    if (target := suite.attacks[transfer.attack].target_class) is not None:
        expected = "expected an untargeted attack, as the matrix counts any wrong class"
        raise ValueError(f"{where}.attack: {expected}, got {transfer.attack!r}, which aims at {target}")


def _check_budget(suite: BaseSuite, attack: str, eps: Fraction, where: str) -> None:
    _expect_one_of(attack, suite.attacks, f"{where}.attack")
    _expect_one_of(str(eps), [str(threat.eps) for threat in suite.threat_models(attack)], f"{where}.eps")


def _expect_one_of(value: str, known: Collection[str], where: str) -> None:
    if value not in known:
        raise ValueError(f"{where}: expected one of {', '.join(known) or 'none here'}, got {value!r}")
