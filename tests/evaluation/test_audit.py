"""The audit of the cheap ensemble by AutoAttack standard."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest
from torch import Tensor, nn

from harness import HarnessError, ThreatModel, evaluate
from harness.attacks.audited import Audited
from harness.attacks.strong import Strong
from harness.datasets.tensors import TensorSplit
from harness.evaluation import audit
from harness.evaluation.run import SweepRun
from harness.evaluation.sanity import judge
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.metrics import audit_bound
from harness.records import Cell, CellResult, Outcome, Status, Verdict
from harness.records.evidence import AuditEvidence, Evidence
from tests.attacks.nets import attack_of, images, threat
from tests.evaluation.test_ensemble import Honest

COUNT = 24
STANDARD = {"apgd-ce", "apgd-t", "fab", "square"}


class BlindMargin(Honest):
    """An honest net whose gradients are zero: attacks on gradients see nothing, a random search is not hindered."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach()) + 0 * x.flatten(1).sum(dim=1, keepdim=True)


class FewClasses(nn.Module):
    """A smooth net of two or three classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.net, self.classes = Honest(), classes

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, : self.classes]


@pytest.fixture(autouse=True)
def _small_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original's budgets take seconds an example; the audit's logic does not depend on them."""
    monkeypatch.setattr(audit, "standard", lambda: Strong(steps=5, fab_steps=3, targets=2, queries=80))


def _swept(net: nn.Module, *budgets: str, protocol: str = "nested", **fields: object) -> Outcome:
    x = images(COUNT, low=0.0, high=1.0)
    split = TensorSplit(x, net(x).argmax(dim=1))
    settings = SweepSettings(attack_of("audited", **fields), tuple(threat(eps) for eps in budgets), protocol=protocol)
    return sweep(net, split, settings, batch_size=10)


def _judged(outcome: Outcome) -> list[CellResult]:
    cell = Cell(
        dataset="d", model="m", arch="a", recipe="r", condition="attack", attack="audited", norm="Linf", protocol="nested"
    )
    rows = [
        CellResult(
            cell.model_copy(update={"eps": it.eps}), str(number), Status.DONE, labels=outcome.labels,
            clean_logits=outcome.clean_logits, condition=it,
        )
        for number, it in enumerate(outcome.conditions)
    ]  # fmt: skip
    return list(judge(rows))


def test_honest_net_withstands_the_audit_and_the_row_says_how_much_the_standard_may_still_take() -> None:
    outcome = _swept(Honest(), "2/255", audit=5)
    found, survivors = outcome.conditions[0].evidence.audit, int((~outcome.conditions[0].is_adversarial).sum())
    assert found == AuditEvidence(survivors=survivors, sampled=5)
    assert set(outcome.conditions[0].evidence.stages) == {"pma", "malt"} | STANDARD
    (row,) = _judged(outcome)
    lost = 100 * min(survivors - 5, survivors * (1 - 0.05 ** (1 / 5))) / COUNT
    assert row.verdict is Verdict.PASS
    assert row.verdict_reasons == (f"audited: AutoAttack standard broke 0 of 5 survivors, at most {lost:.1f} points less",)


@pytest.mark.parametrize("size", [4, 64])
@pytest.mark.parametrize("protocol", ["nested", "independent"])
def test_net_that_the_margins_are_blind_on_ends_in_escalation(size: int, protocol: str) -> None:
    outcome = _swept(BlindMargin(), "6/255", "12/255", audit=size, protocol=protocol)
    found = [condition.evidence.audit for condition in outcome.conditions]
    assert any("square" in it.escalated and it.broken for it in found)
    for condition, it in zip(outcome.conditions, found, strict=True):
        stages = condition.evidence.stages
        assert stages["pma"].adversarial + stages["malt"].adversarial <= 1  # a random start may be a success
        assert it.survivors == int((~condition.is_adversarial).sum())
    assert any(condition.is_adversarial.any() for condition in outcome.conditions)
    assert all(row.verdict is not Verdict.PASS for row in _judged(outcome))
    text = "; ".join(reason for row in _judged(outcome) for reason in row.verdict_reasons)
    assert "so square attacked all survivors; then AutoAttack standard broke 0 of" in text


def test_escalated_stage_attacks_every_survivor_and_nobody_twice() -> None:
    condition = _swept(BlindMargin(), "12/255", audit=4).conditions[0]
    stages = condition.evidence.stages
    assert stages["square"].attacked == COUNT - stages["pma"].adversarial - stages["malt"].adversarial
    assert condition.evidence.audit.sampled == min(4, condition.evidence.audit.survivors)
    assert stages["apgd-ce"].attacked < stages["square"].attacked


def test_success_of_the_audit_counts_at_larger_budgets_where_the_sweep_is_nested() -> None:
    outcome = _swept(BlindMargin(), "6/255", "12/255", audit=64)
    small, large = (condition.is_adversarial for condition in outcome.conditions)
    assert small.any()
    assert not (small & ~large).any()
    assert np.isclose(outcome.smallest_eps[small], 6 / 255).all()


def test_audit_of_all_survivors_leaves_no_doubt() -> None:
    outcome = _swept(Honest(), "2/255")
    found = outcome.conditions[0].evidence.audit
    assert found.sampled == found.survivors
    assert "survivors, all of them" in _judged(outcome)[0].verdict_reasons[0]


def test_sample_is_random_seeded_and_another_at_each_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[int]] = []
    load = audit.load
    monkeypatch.setattr(audit, "load", lambda split, indices, device: drawn.append(list(indices)) or load(split, indices, device))
    for _ in range(2):
        _swept(Honest(), "1/255", "1.01/255", audit=5)
    of_level = [drawn[place] for place in range(0, len(drawn), 4)]
    assert of_level[:2] == of_level[2:]
    assert sorted(of_level[0]) != sorted(of_level[1])
    assert of_level[0] != sorted(of_level[0])


def test_without_an_audit_the_number_is_an_upper_bound() -> None:
    outcome = _swept(Honest(), "2/255", audit=0)
    assert outcome.conditions[0].evidence.audit is None
    assert set(outcome.conditions[0].evidence.stages) == {"pma", "malt"}
    assert "upper bound: audited ran with no audit at this budget" in _judged(outcome)[0].verdict_reasons


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_are_audited_without_the_loss_that_needs_four(classes: int) -> None:
    outcome = _swept(FewClasses(classes), "2/255", audit=5)
    assert set(outcome.conditions[0].evidence.stages) == {"pma", "malt"} | STANDARD - {"apgd-t"}
    reasons = "; ".join(_judged(outcome)[0].verdict_reasons)
    assert "AutoAttack standard without APGD-T broke 0 of" in reasons


def test_everything_adversarial_needs_no_audit() -> None:
    condition = _swept(Honest(), "200/255").conditions[0]
    assert condition.is_adversarial.all()
    assert condition.evidence.audit == AuditEvidence()
    assert not STANDARD & set(condition.evidence.stages)


@pytest.mark.parametrize(("sampled", "survivors"), [(1, 2), (5, 40), (64, 65), (64, 400), (300, 21_000)])
def test_bound_is_that_of_scipy(sampled: int, survivors: int) -> None:
    share = binomtest(0, sampled, alternative="less").proportion_ci(0.95, method="exact").high
    assert audit_bound(sampled, survivors) == pytest.approx(min(share * survivors, survivors - sampled))


def test_bound_needs_a_sample_where_there_are_survivors() -> None:
    assert audit_bound(0, 0) == 0
    for sampled, survivors in ((0, 3), (4, 3), (-1, 3)):
        with pytest.raises(ValueError, match="expected a sample of 1 to 3"):
            audit_bound(sampled, survivors)


def test_evidence_of_parts_adds_up() -> None:
    left = Evidence(audit=AuditEvidence(10, 4, 1, ("square",)))
    right = Evidence(audit=AuditEvidence(5, 5, 2, ("fab", "square")))
    assert (left + right).audit == AuditEvidence(15, 9, 3, ("square", "fab"))
    assert (left + Evidence()).audit == left.audit
    assert (Evidence() + Evidence()).audit is None


def test_number_depends_on_the_code_of_all_parts() -> None:
    parts = {type(part).__name__ for part in Audited().parts()}
    assert parts == {"PMA", "MALT", "APGDCE", "APGDT", "FAB", "Square"}
    assert Audited().identity()["parts"]["Square"] == 2


def test_stages_get_full_batches_across_the_data_set() -> None:
    sizes: dict[str, list[int]] = {}
    net, x = Honest(), images(COUNT, low=0.0, high=1.0)
    stage = SweepRun.stage
    with pytest.MonkeyPatch.context() as patch:

        def noted(self: SweepRun, level: int, attack: object, number: int, batch: object, **named: object) -> object:
            sizes.setdefault(attack.name, []).append(len(batch))
            return stage(self, level, attack, number, batch, **named)

        patch.setattr(SweepRun, "stage", noted)
        split = TensorSplit(x, net(x).argmax(dim=1))
        sweep(net, split, SweepSettings(attack_of("audited", audit=0), (threat("2/255"),)), batch_size=5)
    assert sizes["pma"] == [5, 5, 5, 5, 4]
    assert 0 < sum(sizes["malt"]) < COUNT
    assert all(size == 5 for size in sizes["malt"][:-1])
    assert all(before >= after for before, after in itertools.pairwise(sizes["malt"]))


def test_gradients_of_all_stages_decide_whether_an_example_had_none() -> None:
    blind, honest = (_swept(net, "1/255", audit=0).conditions[0].evidence for net in (BlindMargin(), Honest()))
    assert blind.zero_gradients == COUNT
    assert honest.zero_gradients == 0


def test_budgets_without_an_audit_are_upper_bounds() -> None:
    outcome = _swept(Honest(), "2/255", "3/255", audit=5, audit_at=["3/255"])
    first, second = outcome.conditions
    assert first.evidence.audit is None
    assert (first.evidence.conclusive, first.evidence.shortfall) == (False, "audit")
    assert second.evidence.audit is not None
    assert second.evidence.conclusive


def test_budget_of_the_audit_that_no_sweep_has_is_refused() -> None:
    net, x = Honest(), images(4)
    with pytest.raises(HarnessError, match=r"^attacks.audited.audit_at: expected budgets of the sweep, 2/255; got 1/85$"):
        evaluate(
            net,
            (x, net(x).argmax(dim=1)),
            attacks={"name": "audited", "audit_at": ["3/255"]},
            threat_model=ThreatModel(eps="2/255"),
        )


def test_one_call_gives_the_columns_of_the_audit() -> None:
    net, x = Honest(), images(COUNT, low=0.0, high=1.0)
    attacks = [{"name": "audited", "audit": 5}, "pgd"]
    table = evaluate(net, (x, net(x).argmax(dim=1)), attacks=attacks, threat_model="2/255").set_index("attack")
    row = table.loc["audited"]
    survivors = round(row["robust_accuracy"] * COUNT)
    assert (row["audit_n"], row["audit_broken"]) == (5, 0)
    assert row["robust_accuracy_floor"] == pytest.approx(row["robust_accuracy"] - audit_bound(5, survivors) / COUNT)
    assert table.loc[["none", "pgd"], "robust_accuracy_floor"].isna().all()
    assert "upper bound: no strong attack" not in table.loc["pgd", "verdict_reasons"]
