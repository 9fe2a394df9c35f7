"""What may ship: the lines, the three files, the page's first screen and the verb."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.cli.main import main
from harness.records import Status
from harness.reports.decision.decision import NO_REQUIREMENT, NOT_ASSESSED, Verdict, decision_of
from harness.reports.decision.files import decision_lines, write_decision
from harness.reports.load import Results, load_results
from harness.reports.page.headline import facts, summary
from harness.reports.page.html import render
from harness.reports.page.tables import POISONED, leaderboard_table
from tests.reports.conftest import Write
from tests.reports.planted import attack_results, clean_result, grid, lost_result, trigger_result

MET = {"metric": "clean_accuracy", "model": "pgd", "at_least": 0.5}
OPEN = {"metric": "clean_accuracy", "model": "baseline", "at_least": 0.85}
FAILS = {"metric": "robust_accuracy", "model": "pgd", "attack": "pgd", "eps": "4/255", "at_least": 0.9}


def judged(written: Write, *entries: Mapping[str, Any], **fields: object) -> Results:
    return written(grid(), suite={"name": "synthetic", "requirements": list(entries)}, **fields)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([MET], {"baseline": Verdict.NONE, "pgd": Verdict.SHIP}),
        ([MET, OPEN], {"baseline": Verdict.NOT_SHOWN, "pgd": Verdict.SHIP}),
        ([MET, FAILS], {"baseline": Verdict.NONE, "pgd": Verdict.DO_NOT_SHIP}),
        ([], {"baseline": Verdict.NONE, "pgd": Verdict.NONE}),
    ],
)
def test_a_model_ships_if_all_that_is_required_of_it_is_met(
    written: Write, entries: list[dict[str, Any]], expected: dict[str, Verdict]
) -> None:
    decision = decision_of(judged(written, *entries))
    assert {model.model: model.verdict for model in decision.models} == expected
    assert decision.all_met == (entries in ([MET], []))


def test_each_line_says_why(written: Write) -> None:
    lines = list(decision_lines(decision_of(judged(written, MET, FAILS))))
    assert lines[0] == f"NO REQUIREMENT: baseline: {NO_REQUIREMENT}"
    assert lines[1].startswith(
        "DO NOT SHIP: pgd: robust_accuracy of pgd under pgd at eps 4/255 is at least 0.9: NOT MET: 0.600 ["
    )


def test_a_poisoned_model_never_ships_and_is_never_best(written: Write) -> None:
    cells = [clean_result("pgd"), trigger_result("pgd", 0.05, ())]
    best = trigger_result("pgd", 0.05, ()).cell.model_copy(update={"condition": "clean"})
    clean = clean_result("baseline")
    poisoned = type(clean)(
        best, "0" * 64, clean.status, "", clean.labels, clean.clean_logits, clean.condition, None, clean.verdict
    )
    entry = {**MET, "model": None}
    results = written([*cells, poisoned], suite={"name": "synthetic", "requirements": [entry]}, expectations=())
    decision = {model.model: model for model in decision_of(results).models}
    assert (decision["pgd"].verdict, decision["pgd, backdoor 5 %"].verdict) == (Verdict.SHIP, Verdict.NONE)
    assert decision["pgd, backdoor 5 %"].poisoned
    assert next((fact.value, fact.note) for fact in facts(results)) == ("80.0 %", "pgd")  # the poisoned one has 90 %
    assert "pgd has the highest clean accuracy" in summary(results)
    assert list(results.leaderboard["model"] + results.leaderboard["poison"].fillna("")) == ["pgd", "pgdbackdoor"]
    assert [row[0].mark for row in leaderboard_table(results).rows] == ["", POISONED]
    assert render(results).count(f'<span class="badge invalid">{POISONED}</span>') == 2


def test_the_file_that_was_judged_is_named_by_its_hash(written: Write) -> None:
    provenance = {
        "models": {"pgd": {"training": "ab" * 32, "file": "model.safetensors", "sha256": "cd" * 32}},
        "steps": {"ef" * 32: "train baseline"},
    }
    results = judged(written, MET, provenance=provenance)
    exported = results.folder / "models"
    exported.mkdir()
    for name in ("pgd.onnx", "pgd.onnx.data", "pgd2.onnx", "pgd@backdoor@0.05.onnx"):
        (exported / name).write_bytes(name.encode())
    files = {model.model: [(file.name, file.sha256) for file in model.files] for model in decision_of(results).models}
    assert files["baseline"] == [("training step", "ef" * 32)]
    assert files["pgd"] == [
        ("model.safetensors", "cd" * 32),
        *((f"models/{name}", hashlib.sha256(name.encode()).hexdigest()) for name in ("pgd.onnx", "pgd.onnx.data")),
    ]


def test_threat_model_strength_worst_class_and_cost_are_said(written: Write) -> None:
    decision = decision_of(judged(written))
    assert "in Linf by at most 2/255, 4/255, 8/255" in decision.threat_model
    model = decision.models[1]
    assert model.strength[1] == "Linf eps 4/255: fgsm, pgd; no strong attack: an upper bound, a stronger one may leave less"
    clean, attacked = model.worst_classes
    assert (clean.name, clean.value, clean.examples) == ("carrot", pytest.approx(10 / 13), 13)
    assert (attacked.condition, attacked.metric) == ("pgd at Linf eps 4/255", "robust_accuracy")
    assert model.cost == "60 forward and 54 backward passes an example, 12.0 s of attacks"
    assert "No attacker was measured" in decision_of(written(grid()[:2], "clean")).threat_model


def read_xml(path: Path) -> ElementTree.Element:
    return ElementTree.parse(path).getroot()  # noqa: S314 - it was just written here


def test_the_three_files_are_written_and_read_back(written: Write) -> None:
    folder = judged(written, MET, FAILS, OPEN).folder
    write_decision(load_results(folder))
    found = json.loads((folder / "decision.json").read_text())
    assert [(model["model"], model["verdict"]) for model in found["models"]] == [
        ("baseline", "NOT SHOWN"),
        ("pgd", "DO NOT SHIP"),
    ]
    assert (found["all_met"], tuple(found["not_assessed"])) == (False, NOT_ASSESSED)
    card = (folder / "decision.md").read_text()
    assert "## pgd: DO NOT SHIP" in card
    assert all(text in card for text in NOT_ASSESSED)
    root = read_xml(folder / "junit.xml")
    cases = {case.get("name"): case.find("failure") for case in root.iter("testcase")}
    assert (root.get("tests"), root.get("failures"), len(cases)) == ("3", "2", 3)
    failures = {failure.get("type"): failure for failure in cases.values() if failure is not None}
    assert set(failures) == {"NOT MET", "NOT SHOWN"}
    assert "more examples would decide it" in str(failures["NOT SHOWN"].text)
    assert cases["clean_accuracy of pgd on clean images is at least 0.5"] is None


def test_a_reason_with_control_characters_is_still_xml(written: Write) -> None:
    lost = [clean_result("pgd"), *attack_results("pgd", "pgd")]
    broken = type(lost[1])(lost[1].cell, lost[1].digest, lost[1].status.FAILED, "boom \x1b[2J <&> \x00 'quoted'")
    entry = {**FAILS, "eps": str(broken.cell.eps)}
    folder = written([lost[0], broken], suite={"name": "synthetic", "requirements": [entry]}).folder
    write_decision(load_results(folder))
    (failure,) = read_xml(folder / "junit.xml").iter("failure")
    assert "boom" in str(failure.text)
    assert "<&>" in str(failure.text)


def test_requirements_that_are_gone_leave_no_table(written: Write) -> None:
    folder = judged(written, MET).folder
    write_decision(load_results(folder))
    assert (folder / "requirements.csv").is_file()
    write_decision(judged(written))
    assert not (folder / "requirements.csv").exists()


@pytest.mark.parametrize(("entries", "code"), [([MET], 0), ([MET, OPEN], 1), ([FAILS], 1), ([], 0)])
def test_decide_prints_the_lines_and_its_exit_code_says_whether_all_is_met(
    written: Write, capsys: pytest.CaptureFixture[str], entries: list[dict[str, Any]], code: int
) -> None:
    results = judged(written, *entries)
    with pytest.raises(SystemExit) as stop:
        main(["decide", str(results.folder)])
    assert int(stop.value.code or 0) == code
    assert capsys.readouterr().out.splitlines() == list(decision_lines(decision_of(results)))
    assert {"decision.json", "decision.md", "junit.xml"} <= {path.name for path in results.folder.iterdir()}


def test_decide_refuses_what_is_no_results_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["decide", str(tmp_path)])
    assert stop.value.code == 2
    assert "expected a results folder" in capsys.readouterr().err


def test_the_pages_first_screen_has_the_line_and_the_table_below_it(written: Write) -> None:
    page = render(judged(written, MET, FAILS))
    first = page[: page.index("<nav")]
    assert '<b class="badge invalid">DO NOT SHIP</b>' in first
    assert "NOT MET: 0.600 [" in first
    assert "worst class on clean images: carrot, 76.9 % of 13 · " in first
    assert "in Linf by at most 2/255, 4/255, 8/255" in first
    assert '<section id="requirements">' in page
    assert all(text in page for text in NOT_ASSESSED)
    assert '<section id="requirements">' not in render(judged(written))


def test_a_run_in_which_nothing_finished_shows_nothing(written: Write) -> None:
    lost = [
        lost_result("pgd", Status.FAILED, "out of memory"),
        lost_result("pgd", Status.NOT_RUN, "its training failed", condition="attack", attack="pgd", norm="Linf", eps="4/255"),
    ]
    entries = [MET, FAILS, {**FAILS, "attack": "worst_case"}, {"metric": "recall", "class": "worst_class", "at_least": 0.5}]
    folder = written(lost, suite={"name": "synthetic", "requirements": entries}).folder
    (model,) = write_decision(load_results(folder)).models
    assert model.verdict is Verdict.NOT_SHOWN
    assert {it.outcome for it in model.requirements} == {"NOT SHOWN"}
    assert "failed: out of memory" in model.why
    assert render(load_results(folder)).count("NOT SHOWN") >= len(entries)
