"""The plan of a known suite: its steps, their order, and digests that must not change by accident."""

import pytest

from harness.errors import ModelError
from harness.images import ImageData
from harness.models.base import MODELS
from harness.planning.grid import cells_of
from harness.planning.plan import Plan, plan_of
from harness.spec import parse_spec
from harness.suites.base import BaseSuite
from harness.suites.extent import check_extent
from harness.suites.suite import Suite

GOLDEN = {
    "train baseline": "a45b3351821950b01ef49344ee7d482fd9d0a50934589dca59f871912fe902d6",
    "score baseline": "09800897dc160aa09fc540af23903ce55db57442d498c8f3b140128c0e0ce104",
    "attack baseline with fgsm": "79ee4d7164de05703d2f8c68867c562d79b59a8f41d23471aa7b72074cc63c09",
    "attack baseline with pgd": "5ee8590d531a03cb68909c0320f496a644be6d5871f7cf70b191314028708744",
    "train hardened": "d12d449087b069eb00b238b439188b1ff7458aa1bde8a9d7c883ee51ace59ffe",
}
"""Digests of schema version 1. A change here recomputes the results of every user: raise a step's VERSION knowingly."""


@pytest.fixture(scope="module")
def suite() -> Suite:
    recipe = {"name": "standard", "epochs": 2}
    fields = {
        "name": "golden",
        "dataset": {"name": "digits", "resolution": 16},
        "architecture": {"name": "timm", "arch": "test_efficientnet"},
        "models": {
            "baseline": {"recipe": recipe},
            "hardened": {"recipe": {"name": "pgd", "eps": "8/255", "epochs": 2}, "warm_start": "baseline"},
        },
        "threat_model": {"eps": ["8/255", "4/255"]},
        "attacks": {"fgsm": {"name": "fgsm"}, "pgd": {"name": "pgd", "steps": 3}},
    }
    return parse_spec(Suite, fields, where="golden")


@pytest.fixture(scope="module")
def data(suite: Suite) -> ImageData:
    return suite.dataset.load()


@pytest.fixture(scope="module")
def plan(suite: Suite, data: ImageData) -> Plan:
    return plan_of(suite, data)


@pytest.mark.parametrize("title", GOLDEN)
def test_digest_of_a_known_step_stays_the_same(plan: Plan, title: str) -> None:
    assert next(step.digest for step in plan.steps if step.title == title) == GOLDEN[title]


def test_every_step_comes_once_and_after_those_it_depends_on(plan: Plan) -> None:
    digests = [step.digest for step in plan.steps]
    assert len(set(digests)) == len(digests)
    for place, step in enumerate(plan.steps):
        assert all(digests.index(needed.digest) < place for needed in step.inputs.values())


def test_nested_sweep_is_one_step_and_independent_budgets_are_a_step_each(suite: Suite, data: ImageData) -> None:
    independent, bisect = (
        suite.model_copy(update={"evaluation": suite.evaluation.model_copy(update={"protocol": protocol})})
        for protocol in ("independent", "bisect")
    )
    kinds = [[step.KIND for step in plan_of(variant, data).steps].count("attack") for variant in (suite, independent, bisect)]
    assert kinds == [4, 8, 4]


def test_warm_start_changes_the_digest_of_the_training_only_below_it(suite: Suite, data: ImageData) -> None:
    cold = suite.models["hardened"].model_copy(update={"warm_start": None})
    changed = suite.model_copy(update={"models": {**suite.models, "hardened": cold}})
    before, after = ({step.title: step.digest for step in plan_of(variant, data).steps} for variant in (suite, changed))
    assert {title for title in before if before[title] != after[title]} == {title for title in before if "hardened" in title}


def test_data_of_other_content_changes_every_digest(suite: Suite, data: ImageData, plan: Plan) -> None:
    other = ImageData(data.name, data.class_names, data.splits, "0" * 64, 0)
    assert not {step.digest for step in plan.steps} & {step.digest for step in plan_of(suite, other).steps}


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"name": "timm", "arch": "test_efficientned"}, r"^models.hardened.architecture.arch: timm has no model"),
        (
            {"name": "factory", "factory": "no_such_package.nets:small"},
            r"^models.hardened.architecture.factory: .*cannot be imported",
        ),
        (
            {"name": "timm", "arch": "test_resnet", "weights": "nowhere.h5"},
            r"^models.hardened.architecture.weights: nowhere.h5: ",
        ),
    ],
)
def test_network_that_cannot_be_had_stops_the_plan(
    suite: Suite, data: ImageData, architecture: dict[str, str], message: str
) -> None:
    entry = suite.models["hardened"].model_copy(update={"architecture": MODELS.parse(architecture)})
    changed = suite.model_copy(update={"models": {**suite.models, "hardened": entry}})
    with pytest.raises(ModelError, match=message):
        plan_of(changed, data)


def test_all_budgets_of_a_sweep_share_one_step(plan: Plan) -> None:
    steps: dict[tuple[str, str], set[int]] = {}
    for cell in plan.cells:
        steps.setdefault((cell.cell.model, cell.cell.attack), set()).add(id(cell.step))
    assert [len(found) for found in steps.values()] == [1] * len(steps)
    assert [cell.position for cell in plan.cells if cell.cell.attack == "pgd"] == [0, 1] * len(plan.suite.models)


def test_budgets_are_read_once_an_attack_however_many_models_there_are(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    budgets_of = BaseSuite.threat_models
    monkeypatch.setattr(BaseSuite, "threat_models", lambda self, label: (read.append(label), budgets_of(self, label))[1])
    assert len(cells_of(suite)) == len(suite.models) * (1 + 2 * len(suite.attacks))
    check_extent(suite)
    assert read == 2 * list(suite.attacks)
