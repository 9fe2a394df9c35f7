"""Requirements of a suite file: what is refused, with the place of the fault."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import SuiteError
from harness.planning.plan import plan_of
from harness.suites.files import load_suite
from harness.suites.suite import Suite, suite_json
from tests.suites.test_suite import SMALL

MORE = """
poisons:
  backdoor: {name: backdoor, target_class: "0", rates: [0.1]}
corruptions: {fog: {name: fog, severities: [1, 3]}}
"""
CLEAN = {"metric": "clean_accuracy", "at_least": 0.5}
ROBUST = {"metric": "robust_accuracy", "attack": "pgd", "eps": "8/255", "at_least": 0.5}
RUNTIME = {"runtime": "PyTorch", "precision": "float32"}


def load(folder: Path, entry: dict[str, Any], more: str = MORE) -> Suite:
    path = folder / "small.yaml"
    path.write_text(SMALL + more + yaml.safe_dump({"requirements": [entry]}))
    return load_suite(path)


@pytest.mark.parametrize(
    "entry",
    [
        CLEAN,
        {**ROBUST, "strong": "required", "confidence": 0.99},
        {**ROBUST, "attack": "worst_case", "norm": "Linf", "above": "baseline", "model": "hardened", "by": 0.1},
        {**ROBUST, "class": 3},
        {"metric": "recall", "class": "worst_class", "at_least": 0.5},
        {"metric": "accuracy", "corruption": "fog", "severity": 3, "at_least": 0.5},
        {"metric": "mean_corruption_accuracy", "at_least": 0.5},
        {"metric": "agreement", **RUNTIME, "at_least": 0.9},
        {"metric": "attack_success_rate", "poison": "backdoor", "rate": 0.1, "condition": "trigger", "at_most": 0.1},
    ],
    ids=str,
)
def test_what_a_suite_measures_can_be_required(tmp_path: Path, entry: dict[str, Any]) -> None:
    suite = load(tmp_path, entry)
    (found,) = suite.requirements
    assert Suite.model_validate(suite_json(suite)).requirements == (found,)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"metric": "clean_accuracy"}, "expected at_least, at_most or above, got none of them"),
        ({"metric": "f1_macro", "at_least": 0.5}, r"requirements.0.metric: expected"),
        ({**CLEAN, "at_least": 1.5}, r"requirements.0.at_least: expected a number <= 1, got 1.5"),
        ({**CLEAN, "at_most": 0.4}, "expected at_least <= at_most, got 0.5 and 0.4"),
        ({**CLEAN, "by": 0.1}, "by: expected above beside it"),
        ({**CLEAN, "modle": "x"}, "requirements.0.modle: unknown field; did you mean 'model'"),
        ({**CLEAN, "model": "hardned"}, "requirements.0.model: expected one of baseline, hardened, got 'hardned'"),
        ({**CLEAN, "above": "hardned"}, "requirements.0.above: expected one of baseline, hardened, got 'hardned'"),
        ({**CLEAN, "model": "hardened", "above": "hardened"}, "above: expected another model"),
        ({**CLEAN, "attack": "pgd", "eps": "8/255"}, "metric: expected no condition beside 'clean_accuracy', got 'pgd'"),
        ({**CLEAN, "strong": "required"}, "strong: expected an attack beside it"),
        ({**CLEAN, "strong": "yes"}, "requirements.0.strong: expected 'required'"),
        ({**CLEAN, "confidence": 1.0}, "requirements.0.confidence: expected a number < 1"),
        ({**CLEAN, "class": "3"}, "class: expected the metric recall or robust_accuracy"),
        ({"metric": "recall", "at_least": 0.5}, "metric: expected a class beside 'recall'"),
        ({"metric": "robust_accuracy", "at_least": 0.5}, "metric: expected an attack and its eps"),
        ({"metric": "attack_success_rate", "at_most": 0.5}, "metric: expected an attack, or a poison's condition"),
        ({**ROBUST, "eps": "3/255"}, "requirements.0.eps: expected one of 2/255, 8/255, got '1/85'"),
        ({**ROBUST, "attack": "square"}, "requirements.0.attack: expected one of worst_case, fgsm, pgd, got 'square'"),
        ({**ROBUST, "corruption": "fog"}, "expected one of attack, corruption, folder and condition, got attack and corruption"),
        ({**ROBUST, "norm": "L2"}, "norm: expected attack: worst_case beside it"),
        ({**ROBUST, "attack": "worst_case", "norm": "L2"}, "requirements.0.eps: expected one of none here"),
        ({"metric": "accuracy", "corruption": "fog", "severity": 2, "at_least": 0.5}, "severity: expected one of 1, 3, got '2'"),
        ({"metric": "accuracy", "corruption": "fog", "above": "baseline"}, "above: expected a severity beside the corruption"),
        ({"metric": "accuracy", "folder": "street", "at_least": 0.5}, "folder: expected one of none here, got 'street'"),
        ({**CLEAN, "poison": "backdoor"}, "rate: expected poison and rate together"),
        ({**CLEAN, "poison": "backdoor", "rate": 0.2}, "requirements.0.rate: expected one of 0.1, got '0.2'"),
        ({"metric": "agreement", "at_least": 0.9}, "metric: expected a runtime beside 'agreement'"),
        ({"metric": "accuracy", "runtime": "PyTorch", "at_least": 0.9}, "precision: expected runtime and precision together"),
        ({**CLEAN, **RUNTIME}, "metric: expected accuracy, robust_accuracy, agreement beside a runtime"),
        ({**ROBUST, **RUNTIME, "attack": "worst_case"}, "attack: expected one row of crossruntime.csv"),
    ],
    ids=str,
)
def test_a_requirement_that_nothing_can_meet_is_refused(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        load(tmp_path, entry)


def test_a_budget_in_two_norms_asks_for_the_norm(tmp_path: Path) -> None:
    more = MORE.replace("corruptions", "attacks: {fgsm: {name: fgsm}, l2: {name: pgd, norm: L2, eps: [8/255]}}\ncorruptions")
    path = tmp_path / "small.yaml"
    text = SMALL[: SMALL.index("attacks:")] + more
    path.write_text(text + yaml.safe_dump({"requirements": [{**ROBUST, "attack": "worst_case"}]}))
    with pytest.raises(SuiteError, match=r"requirements.0.norm: expected one of L2, Linf"):
        load_suite(path)


def test_a_model_that_the_attack_leaves_out_is_refused(tmp_path: Path) -> None:
    more = "  square: {name: square, models: [baseline]}\n" + MORE
    with pytest.raises(SuiteError, match=r"requirements.0.model: expected a model that square attacks, got 'hardened'"):
        load(tmp_path, {**ROBUST, "attack": "square", "model": "hardened"}, more)


def test_a_class_that_the_data_lack_is_refused_once_they_are_read(tmp_path: Path) -> None:
    suite = load(tmp_path, {**ROBUST, "class": "33"})
    with pytest.raises(SuiteError, match=r"requirements.0.class: expected worst_class or a class of the data set, got '33'"):
        plan_of(suite, suite.dataset.load())


def test_requirements_change_no_digest(tmp_path: Path) -> None:
    plans = [plan_of(suite, suite.dataset.load()) for suite in (load(tmp_path, CLEAN), load(tmp_path, {**ROBUST, "class": 3}))]
    digests = [[cell.digest for cell in plan.cells] for plan in plans]
    assert digests[0] == digests[1]
