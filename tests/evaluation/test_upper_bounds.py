"""A row is PASS without a remark only where no attack at its budget left significantly less, and a strong one ran."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binomtest

from harness.evaluation.checks.base import significant_lead
from harness.evaluation.ledger import kind_of
from harness.evaluation.sanity import judge
from harness.records import Cell, CellResult, ConditionResult, Status, Verdict
from harness.records.evidence import Access, Evidence
from tests.attacks.nets import attack_of

COUNT = 60
NO_STRONG = "upper bound: no strong attack at this budget"
SMALLER = "upper bound: strong ran with smaller budgets than the original's"


def attacked(
    attack: str,
    robust: int,
    *,
    access: Access = "iterative",
    first: int = 0,
    kind: Evidence | None = None,
) -> CellResult:
    """Returns the row of an attack that leaves so many of 60 examples, and breaks those from `first` on."""
    budget = {"condition": "attack", "norm": "Linf", "eps": Fraction(8, 255)}
    cell = Cell(dataset="d", model="m", arch="a", recipe="r", attack=attack, **budget)
    labels = np.arange(COUNT) % 4
    logits = np.eye(4, dtype=np.float32)[labels]
    is_adversarial = np.zeros(COUNT, dtype=bool)
    is_adversarial[first : first + COUNT - robust] = True
    evidence = Evidence(attacked=COUNT, gradients=9 * COUNT) + (kind or Evidence(access=access))
    condition = ConditionResult(cell.eps, logits, is_adversarial, np.zeros(COUNT, np.float32), evidence=evidence)
    return CellResult(cell, attack, Status.DONE, labels=labels, clean_logits=logits, condition=condition)


def strong(robust: int, **fields: object) -> CellResult:
    """Returns the row of the strong attack with these budgets."""
    return attacked("strong", robust, kind=kind_of(attack_of("strong", **fields), classes=4))


def remarks(*rows: CellResult) -> dict[str, tuple[str, ...]]:
    judged = judge(rows)
    assert {row.verdict for row in judged} == {Verdict.PASS}
    return {row.cell.attack: row.verdict_reasons for row in judged}


def test_pgd_beside_a_strong_attack_that_leaves_less_says_how_much() -> None:
    assert remarks(attacked("pgd", 35), strong(29)) == {"pgd": ("upper bound: strong leaves 48.3",), "strong": ()}


def test_remark_goes_where_the_strong_attack_leaves_no_less_than_chance_would() -> None:
    assert remarks(attacked("pgd", 34), strong(29)) == {"pgd": (), "strong": ()}
    assert remarks(attacked("pgd", 35, first=3), strong(30)) == {"pgd": (), "strong": ()}
    assert remarks(attacked("pgd", 29), strong(29)) == {"pgd": (), "strong": ()}


def test_a_strong_attack_that_leaves_more_than_another_is_an_upper_bound_too() -> None:
    assert remarks(attacked("pgd", 20), strong(40)) == {"pgd": (), "strong": ("upper bound: pgd leaves 33.3",)}


def test_the_least_of_several_is_named_and_noise_is_bounded_too() -> None:
    rows = attacked("random_noise", 59, access="none"), attacked("pgd", 40), attacked("apgd-ce", 30), strong(30)
    assert remarks(*rows) == {
        "random_noise": ("upper bound: apgd-ce leaves 50.0",),
        "pgd": ("upper bound: apgd-ce leaves 50.0",),
        "apgd-ce": (),
        "strong": (),
    }


def test_strong_attack_with_smaller_budgets_says_so() -> None:
    assert remarks(attacked("pgd", 30), strong(30, queries=100)) == {"pgd": (SMALLER,), "strong": (SMALLER,)}
    assert remarks(attacked("pgd", 40), strong(30, steps=9))["pgd"] == (SMALLER, "upper bound: strong leaves 50.0")
    assert remarks(attacked("pgd", 40), strong(40, queries=9000)) == {"pgd": (), "strong": ()}
    assert remarks(attacked("pgd", 40)) == {"pgd": (NO_STRONG,)}


def test_strong_attack_on_few_classes_says_so() -> None:
    assert attack_of("strong").shortfall(3) == "classes"
    row = attacked("strong", 30, kind=kind_of(attack_of("strong"), classes=3))
    assert remarks(row)["strong"] == ("upper bound: strong ran with too few classes for all of its stages",)


def test_stored_outcome_of_a_strong_attack_without_the_shortfall_is_read_as_before() -> None:
    row = strong(30, queries=100)
    older = replace(row.condition.evidence, shortfall=None)
    assert remarks(replace(row, condition=replace(row.condition, evidence=older)))["strong"] == (NO_STRONG,)


@pytest.mark.parametrize(
    "changes", [{"norm": "L2"}, {"eps": Fraction(4, 255)}, {"targeted": True, "target_class": "x"}, {"model": "n"}]
)
def test_only_rows_of_the_same_model_and_budget_bound(changes: dict[str, object]) -> None:
    other = strong(10)
    rows = judge([attacked("pgd", 40), replace(other, cell=other.cell.model_copy(update=changes))])
    assert rows[0].verdict_reasons == (NO_STRONG,)


def test_what_an_attack_broke_outside_the_ball_bounds_nothing() -> None:
    faulty = attacked("apgd-ce", 10)
    faulty = replace(faulty, condition=replace(faulty.condition, max_violation=0.1))
    assert judge([attacked("pgd", 40), faulty])[0].verdict_reasons == (NO_STRONG,)


def test_lead_is_significant_by_the_exact_test_of_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        stronger, weaker = rng.random(80) < rng.random(), rng.random(80) < rng.random()
        ahead, behind = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
        wanted = ahead > behind and binomtest(ahead, ahead + behind).pvalue <= 0.05
        assert significant_lead(stronger, weaker) == (ahead - behind if wanted else 0)
    none = np.zeros(5, dtype=bool)
    assert significant_lead(none, none) == significant_lead(~none, none) == 0
