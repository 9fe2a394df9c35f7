"""Requirements are judged by the interval, the audit's floor and the attack check, on planted runs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.metrics import audit_bound, wilson_interval
from harness.records import CellResult, Status, Verdict
from harness.records.evidence import AuditEvidence, Evidence
from harness.reports.decision.intervals import PairCounts, paired_interval
from harness.reports.decision.requirements import Finding, Requirement, judge_requirements, requirements_table
from tests.reports.conftest import Write
from tests.reports.planted import N, attack_results, clean_result, corruption_result, grid, lost_result, trigger_result

Judge = Callable[..., list[Requirement]]
ROBUST = {"metric": "robust_accuracy", "model": "pgd", "attack": "pgd", "eps": "4/255"}


@pytest.fixture
def judge(written: Write) -> Judge:
    """Judges requirements on planted cells."""

    def judged(
        *entries: Mapping[str, Any], cells: "tuple[CellResult, ...] | None" = None, keep: bool = True
    ) -> list[Requirement]:
        suite = {"name": "synthetic", "requirements": list(entries)}
        results = written(grid() if cells is None else cells, suite=suite)
        if not keep:
            (results.folder / "samples.parquet").unlink()
        return list(judge_requirements(results))

    return judged


def with_evidence(cells: "list[CellResult]", verdict: Verdict = Verdict.PASS, **fields: Any) -> "list[CellResult]":
    return [
        replace(it, verdict=verdict, condition=replace(it.condition, evidence=Evidence(access="ensemble", **fields)))
        for it in cells
        if it.condition is not None
    ]


def audited(sampled: int, model: str = "pgd", verdict: Verdict = Verdict.PASS, **fields: Any) -> "list[CellResult]":
    survivors = (29, 24, 16)
    cells = attack_results(model, "pgd")
    return [
        with_evidence([it], verdict, **({"conclusive": True, "audit": AuditEvidence(left, min(sampled, left))} | fields))[0]
        for it, left in zip(cells, survivors, strict=True)
    ]


@pytest.mark.parametrize(
    ("bound", "outcome"),
    [({"at_least": 0.7}, "MET"), ({"at_least": 0.8}, "NOT SHOWN"), ({"at_least": 0.97}, "NOT MET")],
)
def test_the_intervals_ends_decide_not_the_value(judge: Judge, bound: dict[str, float], outcome: str) -> None:
    (found,) = judge({"metric": "clean_accuracy", "model": "baseline", **bound})
    low, high = wilson_interval(36, N)
    assert (found.outcome, found.found, found.n_examples) == (outcome, 0.9, N)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_largest_value_is_judged_from_the_other_side(judge: Judge) -> None:
    shares = {"attack_success_rate": None, "model": "baseline", "attack": "fgsm", "eps": "2/255"}
    shares.pop("attack_success_rate")
    low, high = wilson_interval(10, 36)
    found = judge(*({"metric": "attack_success_rate", **shares, "at_most": bound} for bound in (high + 0.01, 0.3, low - 0.01)))
    assert [it.outcome for it in found] == ["NOT SHOWN", "NOT SHOWN", "NOT MET"]  # fgsm is SUSPECT: a better attack finds more
    found = judge({"metric": "attack_success_rate", **shares, "attack": "pgd", "at_most": 0.62})
    assert (found[0].outcome, found[0].n_examples, found[0].found) == ("MET", 36, pytest.approx(16 / 36))


def test_the_examples_that_are_said_to_decide_it_do(judge: Judge) -> None:
    (found,) = judge({"metric": "clean_accuracy", "model": "baseline", "at_least": 0.85})
    assert found.outcome is Finding.NOT_SHOWN
    n = N + int(found.needed_examples or 0)
    assert wilson_interval(round(0.9 * n), n).low >= 0.85
    assert f"{found.needed_examples} more examples would decide it" in found.reason
    (equal,) = judge({"metric": "clean_accuracy", "model": "baseline", "at_least": 0.9})
    assert (equal.needed_examples, "no number of examples" in equal.reason) == (None, True)


def test_the_confidence_is_the_requirements_own(judge: Judge) -> None:
    found = judge(*({"metric": "clean_accuracy", "model": "baseline", "at_least": 0.8, "confidence": it} for it in (0.5, 0.99)))
    assert [it.outcome for it in found] == ["MET", "NOT SHOWN"]
    assert found[1].low == pytest.approx(wilson_interval(36, N, 0.99).low)


@pytest.mark.parametrize(
    ("verdict", "bound", "outcome", "reason"),
    [
        (Verdict.PASS, 0.3, "MET", ""),
        (Verdict.SUSPECT, 0.3, "NOT SHOWN", "the attack check is SUSPECT"),
        (Verdict.INVALID, 0.3, "NOT SHOWN", "the attack check is INVALID"),
        (Verdict.SUSPECT, 0.9, "NOT MET", "lies below 0.9"),
        (Verdict.INVALID, 0.9, "NOT SHOWN", "the attack check is INVALID"),
    ],
)
def test_a_doubted_number_shows_nothing_but_a_failure(
    judge: Judge, verdict: Verdict, bound: float, outcome: str, reason: str
) -> None:
    cells = (clean_result("pgd"), *(replace(it, verdict=verdict) for it in attack_results("pgd", "pgd")))
    (found,) = judge({**ROBUST, "at_least": bound}, cells=cells)
    assert found.outcome == outcome
    assert reason in found.reason


def test_a_weak_attack_shows_nothing_where_a_strong_one_is_required(judge: Judge) -> None:
    required = {**ROBUST, "at_least": 0.3, "strong": "required"}
    weak, strong = (clean_result("pgd"), *with_evidence(attack_results("pgd", "pgd"))), (clean_result("pgd"), *audited(24))
    (found,) = judge(required, cells=weak)
    assert found.outcome is Finding.NOT_SHOWN
    assert "no strong attack" in found.reason
    assert found.needed_examples is None
    assert [it.outcome for it in judge(required, cells=strong)] == ["MET"]
    assert [it.outcome for it in judge({**required, "at_least": 0.95}, cells=weak)] == ["NOT MET"]


def test_the_worst_case_is_strong_by_one_strong_attack(judge: Judge) -> None:
    worst = {**ROBUST, "attack": "worst_case", "at_least": 0.3, "strong": "required"}
    fgsm = with_evidence(attack_results("pgd", "fgsm"))
    assert [it.outcome for it in judge(worst, cells=(clean_result("pgd"), *fgsm, *audited(24)))] == ["MET"]
    invalid = audited(24, verdict=Verdict.INVALID)
    assert [it.outcome for it in judge(worst, cells=(clean_result("pgd"), *fgsm, *invalid))] == ["NOT SHOWN"]
    (found,) = judge(worst, cells=(clean_result("pgd"), *fgsm, *with_evidence(attack_results("pgd", "pgd"))))
    assert "no strong attack" in found.reason


def test_the_worst_case_is_taken_example_by_example(judge: Judge) -> None:
    (found,) = judge({**ROBUST, "attack": "worst_case", "at_least": 0.1})
    assert found.found == pytest.approx(22 / N)  # adversarial under fgsm or pgd: 8 to 17, of 32


def test_the_audits_floor_lowers_the_lower_end_only(judge: Judge) -> None:
    (found,) = judge({**ROBUST, "at_least": 0.2, "confidence": 0.9}, cells=(clean_result("pgd"), *audited(8)))
    lost = np.ceil(audit_bound(8, 24, confidence=0.9))
    assert found.found == pytest.approx(24 / N)
    assert found.low == pytest.approx(wilson_interval(int(24 - lost), N, 0.9).low)
    assert found.high == pytest.approx(wilson_interval(24, N, 0.9).high)


def test_no_number_of_examples_helps_where_the_audits_sample_is_too_small(judge: Judge) -> None:
    (found,) = judge({**ROBUST, "at_least": 0.5}, cells=(clean_result("pgd"), *audited(4)))
    assert (found.outcome, found.needed_examples) == ("NOT SHOWN", None)


def test_a_difference_is_judged_on_the_same_examples(judge: Judge) -> None:
    cells = (clean_result("baseline"), clean_result("pgd"), *attack_results("baseline", "pgd"), *attack_results("pgd", "pgd"))
    (found,) = judge({**ROBUST, "above": "baseline", "by": 0.1}, cells=cells)
    own = [index for index in range(8, N) if index not in range(10, 18)]
    rival = list(range(34, N))
    both = len(set(own) & set(rival))
    counts = PairCounts(both, len(own) - both, len(rival) - both, N - len(set(own) | set(rival)))
    assert (found.found, found.outcome) == (pytest.approx((len(own) - len(rival)) / N), "MET")
    assert (found.low, found.high) == pytest.approx(tuple(paired_interval(counts)))


def test_what_an_audit_leaves_open_lowers_the_difference(judge: Judge) -> None:
    cells = (clean_result("baseline"), clean_result("pgd"), *attack_results("baseline", "pgd"), *audited(8))
    entry = {**ROBUST, "above": "baseline", "by": 0.1}
    plain = judge(entry, cells=(*cells[:5], *attack_results("pgd", "pgd")))[0]
    (found,) = judge(entry, cells=cells)
    assert found.low == pytest.approx((plain.low or 0) - audit_bound(8, 24) / N)
    assert found.high == pytest.approx(plain.high)


def test_models_without_a_number_are_not_shown_with_the_reason(judge: Judge) -> None:
    lost = lost_result("pgd", Status.FAILED, "out of memory", condition="attack", attack="square", norm="Linf", eps="4/255")
    entry = {**ROBUST, "attack": "square", "at_least": 0.0}
    (found,) = judge(entry, cells=(clean_result("pgd"), lost))
    assert (found.outcome, found.found) == ("NOT SHOWN", None)
    assert found.reason == "its cell is failed: out of memory"
    (found,) = judge({**entry, "attack": "none_such"}, cells=(clean_result("pgd"),))
    assert found.reason == "the grid has no such cell"


def test_a_requirement_without_a_model_is_one_for_each(judge: Judge) -> None:
    found = judge({"metric": "clean_accuracy", "at_least": 0.5, "at_most": 1.0})
    assert [(it.model, it.kind) for it in found] == [
        (model, kind) for kind in ("at_least", "at_most") for model in ("baseline", "pgd")
    ]


def test_a_class_is_judged_on_its_own_examples(judge: Judge) -> None:
    (found,) = judge({"metric": "recall", "model": "baseline", "class": "beet", "at_least": 0.5})
    assert (found.found, found.n_examples) == (pytest.approx(12 / 14), 14)  # 0 and 3 of the first four are beets
    (robust,) = judge({**ROBUST, "class": "null", "attack": "worst_case", "at_least": 0.1})
    right = [index for index in range(2, N, 3) if index >= 18]
    assert (robust.found, robust.n_examples) == (pytest.approx(len(right) / 13), 13)


def test_the_worst_class_must_meet_the_bound_and_so_must_all_others(judge: Judge) -> None:
    found = judge(
        *({"metric": "recall", "model": "baseline", "class": "worst_class", "at_least": it} for it in (0.5, 0.65, 0.965, 0.999))
    )
    assert [it.outcome for it in found] == ["MET", "NOT SHOWN", "NOT SHOWN", "NOT MET"]
    rates = {"beet": (12, 14), "carrot": (12, 13), "null": (12, 13)}
    lows = [wilson_interval(*it).low for it in rates.values()]
    highs = [wilson_interval(*it, 1 - 0.05 / 3).high for it in rates.values()]
    assert (found[0].low, found[0].high) == pytest.approx((min(lows), min(highs)))
    assert wilson_interval(12, 14).high < 0.965 < min(highs)  # one of three shares is low by chance
    more = found[1].needed_examples or 0
    assert wilson_interval(round((14 + more) * 12 / 14), 14 + more).low >= 0.65


def test_the_mean_over_corruptions_counts_each_once(judge: Judge) -> None:
    cells = (
        clean_result("pgd"),
        *(corruption_result("pgd", "fog", severity, wrong) for severity, wrong in ((1, 4), (3, 12))),
        corruption_result("pgd", "snow", 1, 20),
        corruption_result("pgd", "rotation", 1, 40, group="geometry"),
    )
    entry = {"metric": "mean_corruption_accuracy", "model": "pgd", "at_least": 0.3}
    for keep in (True, False):
        (found,) = judge(entry, cells=cells, keep=keep)
        assert (found.found, found.n_examples) == (pytest.approx((32 / N + 20 / N) / 2), N)
        assert found.low == pytest.approx(wilson_interval(26, N).low)
    (one,) = judge({"metric": "accuracy", "model": "pgd", "corruption": "fog", "severity": 3, "at_least": 0.5}, cells=cells)
    assert one.found == pytest.approx(28 / N)


def test_backdoor_success_counts_triggered_images_of_other_classes(judge: Judge) -> None:
    cells = (clean_result("baseline"), trigger_result("baseline", 0.05, range(0, 20)))
    entry = {"metric": "attack_success_rate", "model": "baseline", "poison": "backdoor", "rate": 0.05, "condition": "trigger"}
    (found,) = judge({**entry, "at_most": 0.1}, cells=cells)
    eligible = [index for index in range(4, N) if index % 3]
    assert (found.found, found.n_examples) == (pytest.approx(sum(it < 20 for it in eligible) / len(eligible)), len(eligible))
    assert (found.outcome, found.model) == ("NOT MET", "baseline")


@pytest.mark.parametrize("entry", [{"metric": "clean_accuracy", "model": "pgd"}, ROBUST, {**ROBUST, "attack": "worst_case"}])
def test_shares_are_the_same_without_the_table_of_examples(judge: Judge, entry: dict[str, Any]) -> None:
    pairs = [judge({**entry, "at_least": 0.3}, keep=keep) for keep in (True, False)]
    assert pairs[0] == pairs[1]


def test_differences_need_the_table_of_examples(judge: Judge) -> None:
    (found,) = judge({**ROBUST, "above": "baseline"}, keep=False)
    assert (found.outcome, "samples.parquet" in found.reason) == ("NOT SHOWN", True)


def test_a_runtimes_row_is_that_of_the_same_cell(written: Write) -> None:
    entry = {"metric": "agreement", "model": "pgd", "runtime": "ONNX Runtime (Python)", "precision": "int8", "at_least": 0.7}
    results = written(grid(), suite={"name": "synthetic", "requirements": [entry]})
    clean = results.cells[(results.cells["model"] == "pgd") & (results.cells["condition"] == "clean")].iloc[0]
    row = {"model": "pgd", "condition": "clean", "runtime": "ONNX Runtime (Python)", "precision": "int8", "n_examples": 20}
    for digest, outcome in ((clean["digest"], "MET"), ("stale", "NOT SHOWN")):
        pd.DataFrame([{**row, "agreement": 0.95, "digest": digest}]).to_csv(results.folder / "crossruntime.csv", index=False)
        results.__dict__.pop("crossruntime", None)
        (found,) = judge_requirements(results)
        assert found.outcome == outcome
    assert "harness crosscheck" in found.reason


def test_a_file_that_was_not_attacked_itself_is_no_strong_evidence(written: Write) -> None:
    entry = {**ROBUST, "runtime": "PyTorch", "at_least": 0.1, "strong": "required"}
    cells = (clean_result("pgd"), *audited(24))
    entries = [entry | {"precision": precision} for precision in ("float32", "int8")]
    results = written(cells, suite={"name": "synthetic", "requirements": entries})
    digest = cells[2].digest
    rows = [
        {"model": "pgd", "condition": "attack", "runtime": "PyTorch", "precision": it, "n_examples": 20, "robust_accuracy": 0.6}
        for it in ("float32", "int8")
    ]
    pd.DataFrame(rows).assign(digest=digest).to_csv(results.folder / "crossruntime.csv", index=False)
    found = judge_requirements(results)
    assert [it.outcome for it in found] == ["MET", "NOT SHOWN"]
    assert "float network" in found[1].reason


def test_the_table_has_the_columns_in_their_order(judge: Judge) -> None:
    table = requirements_table(judge({"metric": "clean_accuracy", "at_least": 0.85}))
    named = ["text", "outcome", "found", "low", "high", "bound", "reason", "needed_examples", "model"]
    assert list(table.columns)[:9] == named
    assert table["needed_examples"].dtype == "Int64"


def test_requirements_that_are_none_are_an_error_that_names_the_file(judge: Judge) -> None:
    with pytest.raises(HarnessError, match=r"provenance.json: suite.requirements.0: .*metric"):
        judge({"model": "pgd"})


def test_rows_of_older_runs_without_the_column_say_so(written: Write) -> None:
    entry = {**ROBUST, "at_least": 0.1, "strong": "required"}
    results = written((clean_result("pgd"), *audited(24)), suite={"name": "synthetic", "requirements": [entry]})
    pd.read_csv(results.folder / "cells.csv").drop(columns="conclusive").to_csv(results.folder / "cells.csv", index=False)
    (found,) = judge_requirements(results)
    assert (found.outcome, "run the suite again" in found.reason) == ("NOT SHOWN", True)


def test_budgets_are_matched_however_they_are_written(judge: Judge) -> None:
    eps = str(float(Fraction(4, 255)))
    assert judge({**ROBUST, "at_least": 0.1}) == [
        replace(it, text=it.text.replace(eps, "4/255")) for it in judge({**ROBUST, "eps": "8/510", "at_least": 0.1})
    ]
