"""An attack that had nothing to attack has no number; images that all get one answer are no evidence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from harness.evaluation.sanity import judge
from harness.records import Cell, CellResult, ConditionResult, RunRecord, Status, Verdict
from harness.records.evidence import Evidence
from harness.reports.figures.curves import draw_figures
from harness.reports.load import load_results
from harness.reports.page.html import write_report
from harness.reports.tables.write import write_tables
from harness.standalone import evaluate
from harness.threat import ThreatModel
from tests.attacks.nets import CLASSES, images

NUMBERS = ("accuracy", "robust_accuracy", "attack_success_rate", "f1_macro", "roc_auc_macro", "forwards", "seconds")


class Net(nn.Module):
    """A linear net over raw pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(images(1).numel(), CLASSES)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=torch.Generator().manual_seed(2)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x - 0.5).flatten(1))


def of_class(net: nn.Module, wanted: int) -> tuple[Tensor, Tensor]:
    """Returns images that a net puts into one class, with that label."""
    x = images(200)
    with torch.no_grad():
        x = x[net(x).argmax(dim=1) == wanted][:12]
    return x, torch.full((len(x),), wanted)


@pytest.mark.parametrize("protocol", ["nested", "independent"])
def test_targeted_attack_on_examples_of_its_target_alone_has_no_number(protocol: str) -> None:
    net = Net()
    threats = [ThreatModel(eps=eps, targeted=True) for eps in ("4/255", "16/255")]
    table = evaluate(net, of_class(net, 1), attacks=["pgd"], threat_model=threats, target_class=1, protocol=protocol)
    rows = table[table["condition"] == "attack"]
    assert rows[list(NUMBERS)].isna().all(axis=None)
    assert set(rows["status"]) == {"skipped"}
    assert rows["verdict"].isna().all()
    reason = "none of the 12 examples of another class than its target is classified correctly"
    assert set(rows["reason"]) == {f"nothing to attack: {reason}"}


def test_one_example_of_another_class_is_a_number() -> None:
    net = Net()
    (x, y), (other, label) = of_class(net, 1), of_class(net, 2)
    data = torch.cat([x, other[:1]]), torch.cat([y, label[:1]])
    threat = ThreatModel(eps="64/255", targeted=True)
    row = evaluate(net, data, attacks=["pgd"], threat_model=threat, target_class=1).iloc[1]
    assert row["status"] == "done"
    assert row["attack_success_rate"] == 1
    assert row["robust_accuracy"] == pytest.approx(12 / 13)


def test_attack_on_a_model_that_is_always_wrong_has_no_number() -> None:
    net = Net()
    x, y = of_class(net, 1)
    table = evaluate(net, (x, (y + 1) % CLASSES), attacks=["fgsm", {"name": "square", "queries": 3}]).set_index("attack")
    assert table.loc["none", "accuracy"] == 0
    for attack in ("fgsm", "square"):
        assert table.loc[attack, list(NUMBERS)].isna().all()
        assert table.loc[attack, "reason"] == "nothing to attack: none of the 12 examples is classified correctly"


def result(labels: np.ndarray, predicted: np.ndarray, clean: np.ndarray, **fields: object) -> CellResult:
    cell = Cell(dataset="d", model="m", arch="a", recipe="r", **fields)
    one_hot = np.eye(4, dtype=np.float32)
    nothing = np.zeros(len(labels))
    condition = ConditionResult(cell.eps, one_hot[predicted], nothing.astype(bool), nothing.astype(np.float32))
    known = {"labels": labels, "clean_logits": one_hot[clean], "smallest_eps": nothing + np.inf}
    return CellResult(cell, repr(fields), Status.DONE, condition=condition, **known)


FOG = {"condition": "corruption", "corruption": "fog", "severity": 5}
LABELS = np.arange(24) % 3
CONSTANT = np.full(24, 3)


@pytest.mark.parametrize("fields", [FOG, {"condition": "folder", "attack": "own"}])
def test_one_answer_to_all_images_of_a_condition_is_said(fields: dict[str, object]) -> None:
    clean = CONSTANT if fields["condition"] == "folder" else LABELS
    (row,) = judge([result(LABELS, CONSTANT, clean, **fields)])
    text = f"the model predicts one class for every image of this {fields['condition']}"
    assert row.verdict is Verdict.SUSPECT
    assert [reason for reason in row.verdict_reasons if "one class" in reason] == [text]
    (told_apart,) = judge([result(LABELS, np.where(np.arange(24), 3, 0), LABELS, **fields)])
    assert told_apart.verdict is Verdict.PASS


def test_one_answer_is_right_for_images_of_one_class_and_for_a_trigger() -> None:
    single = np.full(24, 3)
    assert judge([result(single, single, single, condition="folder", attack="own")])[0].verdict is Verdict.PASS
    assert judge([result(LABELS, CONSTANT, LABELS, condition="trigger", target_class="d")])[0].verdict is Verdict.PASS


def test_trigger_without_an_example_that_was_right_says_that_there_is_no_rate() -> None:
    (row,) = judge([result(LABELS, CONSTANT, (LABELS + 1) % 3, condition="trigger", target_class="d")])
    assert "no attack success rate: no example was classified correctly before" in row.verdict_reasons


def test_tables_page_and_curves_do_without_the_number(tmp_path: Path) -> None:
    attack = {"condition": "attack", "attack": "to_d", "norm": "Linf", "eps": "8/255", "protocol": "nested"}
    aimed = result(CONSTANT, CONSTANT, CONSTANT, **attack, targeted=True, target_class="d")
    aimed = replace(aimed, condition=replace(aimed.condition, evidence=Evidence(target_class=3)))
    plain = result(CONSTANT, CONSTANT, CONSTANT, **{**attack, "attack": "pgd"})
    plain = replace(plain, condition=replace(plain.condition, is_adversarial=np.arange(24) % 2 == 0))
    names = tuple(map(str, range(24)))
    for number, rows in enumerate(([aimed, plain], [aimed])):
        cells = judge([result(CONSTANT, CONSTANT, CONSTANT), *rows])
        record = RunRecord({"name": "s", "title": "", "description": ""}, cells, ("a", "b", "c", "d"), names, names, histories={})
        write_tables(record, folder := tmp_path / str(number))
        write_report(load_results(folder))
        draw_figures(load_results(folder))
        board = pd.read_csv(folder / "leaderboard.csv").iloc[0]
        assert board["verdict"] != "INVALID"
        assert board["robust_accuracy"] == pytest.approx(0.5) if len(rows) > 1 else np.isnan(board["robust_accuracy"])
        assert "to_d" not in set(pd.read_csv(folder / "sweep.csv")["attack"])
        assert "nothing to attack" in (folder / "report.html").read_text()
