"""`harness.evaluate`: any module, any data, without a suite."""

import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from harness import ThreatModel, evaluate
from harness.attacks.base import Attack
from harness.errors import HarnessError
from harness.records import CELL_COLUMNS
from tests.attacks.nets import attack_of
from tests.compilers import broken
from tests.conftest import MakeFolder
from tests.nets import small_convnet

BUDGETS = [ThreatModel(eps=eps) for eps in ("4/255", "16/255")]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(24, 3, 16, 16, generator=generator), torch.arange(24) % 3


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return small_convnet(3).eval()


def test_table_has_a_clean_row_and_one_for_each_attack_and_budget(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    table = evaluate(model, pair, attacks=["fgsm", {"name": "pgd", "steps": 3}], threat_model=BUDGETS)
    assert list(table.columns) == list(CELL_COLUMNS)
    assert list(table["attack"]) == ["none", "fgsm", "fgsm", "pgd", "pgd"]
    assert table["accuracy"].between(0, 1).all()
    assert table["verdict"].notna().all()


def test_loader_and_tensors_give_the_same_numbers(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    tables = [evaluate(model, data, attacks=["fgsm"]) for data in (pair, DataLoader(TensorDataset(*pair), batch_size=5))]
    assert tables[0]["accuracy"].tolist() == tables[1]["accuracy"].tolist()


def test_data_set_is_known_by_name(model: nn.Module) -> None:
    table = evaluate(small_convnet(10).eval(), "digits", attacks=[], limit=20)
    assert table["n_examples"].tolist() == [20]
    assert table["dataset"].tolist() == ["digits"]


def test_folder_of_images_is_named_by_a_mapping(make_folder: MakeFolder) -> None:
    table = evaluate(small_convnet(2).eval(), {"name": "image_folder", "root": str(make_folder()), "resolution": 16}, attacks=[])
    assert table["n_examples"].tolist() == [6]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("digit", "data: datasets: unknown name 'digit'; did you mean 'digits'"),
        ({"name": "image_folder"}, "data: .*root"),
        ({"name": "image_folder", "root": "no-such-folder"}, "no-such-folder"),
    ],
)
def test_bad_data_set_is_named(model: nn.Module, data: object, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        evaluate(model, data, attacks=[])


def test_attack_that_cannot_run_is_skipped_with_its_reason(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    table = evaluate(model, pair, attacks=["fgsm"], threat_model=ThreatModel(norm="L1", eps=1))
    skipped = table[table["status"] == "skipped"]
    assert len(skipped) == 1
    assert skipped["accuracy"].isna().all()
    assert "L1" in skipped["reason"].iloc[0]


def test_model_is_given_back_as_it_was(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    model.train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, pair, attacks=["fgsm"])
    assert model.training
    assert not model[1].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("attacks", "threats", "message"),
    [
        (["pdg"], BUDGETS, "did you mean 'pgd'"),
        ([{"name": "pgd", "steps": 0}], BUDGETS, "steps: expected a number >= 1, got 0"),
        (["fgsm"], [ThreatModel(eps="1/255"), ThreatModel(norm="L2", eps=1)], "same norm"),
        (["fgsm"], [], "same norm"),
    ],
)
def test_bad_input_is_named(
    model: nn.Module, pair: tuple[Tensor, Tensor], attacks: Sequence[object], threats: Sequence[ThreatModel], message: str
) -> None:
    with pytest.raises(HarnessError, match=message):
        evaluate(model, pair, attacks=attacks, threat_model=threats)  # type: ignore[arg-type]


def test_images_outside_the_unit_range_are_refused(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(HarnessError, match=r"\[0,1\]"):
        evaluate(model, (pair[0] * 255, pair[1]))


class Returning(nn.Module):
    """Gives what a test makes of a network's logits."""

    def __init__(self, network: nn.Module, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x: Tensor) -> object:
        return self.change(self.network(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: (logits, logits), "model: expected logits as one tensor, got tuple"),
        (lambda logits: {"logits": logits}, "model: expected logits as one tensor, got dict"),
        (
            lambda logits: logits.argmax(1),
            r"model: expected floating-point logits of shape \(2, .*got torch.int64 of shape \(2,\)",
        ),
        (lambda logits: logits[:1], r"got torch.float32 of shape \(1, 3\)"),
        (lambda logits: logits[:, :1], r"got torch.float32 of shape \(2, 1\)"),
    ],
)
def test_module_that_gives_no_logits_is_refused(
    model: nn.Module, pair: tuple[Tensor, Tensor], change: Callable[[Tensor], object], message: str
) -> None:
    with pytest.raises(HarnessError, match=message):
        evaluate(Returning(model, change), pair)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_network_of_another_number_format_is_refused_with_what_to_do(
    model: nn.Module, pair: tuple[Tensor, Tensor], dtype: torch.dtype
) -> None:
    expected = rf"model: a forward pass of 2 float32 images of 3 x 16 x 16 failed: .*{dtype}: model\.float\(\) converts them"
    with pytest.raises(HarnessError, match=expected):
        evaluate(model.to(dtype), pair)


def test_labels_counted_from_one_are_refused(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(HarnessError, match=r"data: expected labels from 0 to 2, as the model gives 3 logits, got 3; .*from 1\?"):
        evaluate(model, (pair[0], pair[1] + 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": lambda x: x}, "model: expected a torch.nn.Module, got function"),
        ({"protocol": "nestd"}, "protocol: expected nested or independent or bisect, got 'nestd'"),
        ({"threat_model": True}, 'threat_model: expected a budget such as "8/255", or ThreatModel.*, got True'),
        ({"threat_model": [None]}, 'threat_model: expected a budget such as "8/255"'),
        ({"threat_model": "8"}, 'threat_model: ThreatModel.eps: expected a budget <= 1 .* write "8/255", not 8; got 8'),
        ({"threat_model": ["8/255", "much"]}, "threat_model: ThreatModel.eps: expected a budget like .*, got 'much'"),
        ({"threat_model": {"epz": 1}}, "threat_model: ThreatModel.epz: unknown field; did you mean 'eps'"),
        ({"threat_model": ThreatModel(targeted=True)}, "target_class: expected the class that the targeted .* aims at, got None"),
        ({"target_class": 1}, r"target_class: expected ThreatModel\(targeted=True\) beside it, got 1"),
        (
            {"threat_model": [ThreatModel(), ThreatModel(eps="9/255", targeted=True)], "target_class": 1},
            "threat_model: expected all of them targeted or none, got both",
        ),
        ({"threat_model": [ThreatModel(), ThreatModel()]}, "threat_model: expected different budgets, got 8/255, 8/255"),
        ({"attacks": 7}, "attacks: expected a name from .*, got 7"),
    ],
)
def test_argument_of_another_type_is_refused_before_anything_is_computed(
    pair: tuple[Tensor, Tensor], arguments: dict[str, object], message: str
) -> None:
    never = Returning(nn.Identity(), lambda _: pytest.fail("computed"))
    with pytest.raises(HarnessError, match=message):
        evaluate(**{"model": never, "data": pair, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["8/255", 8 / 255, ["8/255"], {"eps": "8/255"}])
def test_budget_alone_is_a_threat_model(model: nn.Module, pair: tuple[Tensor, Tensor], given: Any) -> None:
    found = evaluate(model, pair, attacks="fgsm", threat_model=given)
    wanted = evaluate(model, pair, attacks="fgsm", threat_model=ThreatModel(eps="8/255"))
    numbers = ["norm", "eps", "accuracy", "robust_accuracy", "max_violation"]
    assert found[numbers].round(6).equals(wanted[numbers].round(6))


def test_budget_alone_aims_at_the_target_class(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    table = evaluate(model, pair, attacks="fgsm", threat_model="8/255", target_class=1)
    assert table["targeted"].tolist()[1:] == [True]


@pytest.mark.parametrize("attacks", ["fgsm", {"name": "fgsm"}, attack_of("fgsm")])
def test_single_attack_needs_no_list(model: nn.Module, pair: tuple[Tensor, Tensor], attacks: Any) -> None:
    assert evaluate(model, pair, attacks=attacks)["attack"].tolist() == ["none", "fgsm"]


class Broken(Attack):
    name: Literal["broken"] = "broken"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        raise ZeroDivisionError("by nothing\nat all")


class Exiting(Attack):
    name: Literal["exiting"] = "exiting"

    def perturb(self, *_: object, **__: object) -> Tensor:
        sys.exit(3)


def test_attack_that_calls_exit_has_failed_rows_and_costs_no_other_row(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    table = evaluate(model, (pair[0], model(pair[0]).argmax(dim=1)), attacks=[Exiting(), "fgsm"])
    assert table.set_index("attack")["status"].to_dict() == {"none": "done", "exiting": "failed", "fgsm": "done"}
    assert table.set_index("attack")["reason"]["exiting"] == "SystemExit: expected a result, but sys.exit(3) was called"


def test_attack_that_breaks_has_failed_rows_and_costs_no_other_row(
    model: nn.Module, pair: tuple[Tensor, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    labels = model(pair[0]).argmax(dim=1)
    table = evaluate(model, (pair[0], labels), attacks=[Broken(), "fgsm"], threat_model=BUDGETS)
    assert table["status"].tolist() == ["done", "failed", "failed", "done", "done"]
    failed = table[table["attack"] == "broken"]
    assert failed[["accuracy", "clean_accuracy", "robust_accuracy"]].isna().all(axis=None)
    assert failed["reason"].tolist() == ["ZeroDivisionError: by nothing"] * 2
    assert [record.exc_info is not None for record in caplog.records if "broken failed" in record.message] == [True]


def test_attack_that_needs_more_classes_is_skipped(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    table = evaluate(model, pair, attacks=["apgd-t"])
    assert table["status"].tolist() == ["done", "skipped"]
    assert table["reason"].iloc[1] == "apgd-t needs a model with at least 4 classes, this one has 3"


def test_rows_of_a_network_whose_gradients_underflow_are_invalid(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    top = model(pair[0]).topk(2).values.detach()
    scale = 120 / float((top[:, 0] - top[:, 1]).min())
    confident = Returning(model, lambda logits: logits * scale)
    table = evaluate(confident, (pair[0], model(pair[0]).argmax(dim=1)), attacks="fgsm", threat_model=ThreatModel(eps="1/25500"))
    assert table["verdict"].tolist()[1] == "INVALID"
    assert "all gradients are zero for 100 % of the correct examples" in table["verdict_reasons"].iloc[1]


AIMED = [ThreatModel(eps=eps, targeted=True) for eps in ("16/255", "1/2")]


def test_targeted_attack_counts_the_target_alone_and_says_so(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    labels = model(pair[0]).argmax(dim=1)
    labels[:6] = target = int(model(pair[0][6:7]).argsort()[0, 1])  # six that the network gets wrong, of the target class
    table = evaluate(model, (pair[0], labels), attacks=["pgd", "strong"], threat_model=AIMED, target_class=target)
    assert table["status"].tolist() == ["done", "done", "done", "skipped", "skipped"]
    assert table["reason"].iloc[3] == "strong has no targeted mode"
    assert table["targeted"].isna().tolist() == [True, False, False, False, False]
    assert table["targeted"].iloc[1:].all()
    assert table["target_class"].tolist()[1:] == [str(target)] * 4
    for row in table.iloc[1:3].to_dict("records"):
        assert row["robust_accuracy"] == pytest.approx(18 / 24 * (1 - row["attack_success_rate"]))
    assert table["attack_success_rate"].iloc[2] > 0


def test_target_may_be_a_class_name_of_the_data_set(make_folder: MakeFolder) -> None:
    data = {"name": "image_folder", "root": str(make_folder()), "resolution": 16}
    tables = [
        evaluate(small_convnet(2).eval(), data, attacks="fgsm", threat_model=AIMED[0], target_class=target)
        for target in ("Onion", 1)
    ]
    assert [table["target_class"].iloc[1] for table in tables] == ["Onion", "Onion"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Onoin", r"target_class: expected 0 to 1 or a class name, got 'Onoin'; did you mean 'Onion'\?"),
        (2, "target_class: expected 0 to 1 or a class name, got 2; known: Leek, Onion"),
        (True, "target_class: expected 0 to 1 or a class name, got True"),
    ],
)
def test_unknown_target_is_refused_with_the_nearest_one(make_folder: MakeFolder, target: Any, message: str) -> None:
    data = {"name": "image_folder", "root": str(make_folder()), "resolution": 16}
    with pytest.raises(HarnessError, match=message):
        evaluate(small_convnet(2).eval(), data, attacks="fgsm", threat_model=AIMED, target_class=target)


def test_other_form_of_the_network_is_in_the_digests_of_attacks_alone(
    model: nn.Module, pair: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    plain, *others = (
        evaluate(model, pair, attacks="fgsm", **arguments)  # type: ignore[arg-type]
        for arguments in ({}, {"precision": "bfloat16"}, {"compile": True}, {"compile": True, "precision": "bfloat16"})
    )
    digests = [table["digest"].tolist() for table in (plain, *others)]
    assert len({clean for clean, _ in digests}) == 1
    assert len({attacked for _, attacked in digests}) == 4
    assert others[1]["robust_accuracy"].iloc[1] == plain["robust_accuracy"].iloc[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "fp16"}, "evaluate: precision: expected 'float32' or 'bfloat16', got 'fp16'"),
        ({"compile": "maybe"}, "evaluate: compile: expected"),
    ],
)
def test_unknown_form_is_refused(model: nn.Module, pair: tuple[Tensor, Tensor], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        evaluate(model, pair, **arguments)


def folder_spec(root: Path) -> dict[str, object]:
    return {"name": "image_folder", "root": str(root), "resolution": 16}


@pytest.mark.parametrize(
    ("splits", "judged"),
    [({"train": 5, "val": 2}, 4), ({"val": 2}, 4), ({"testing": 1}, 2), ({"": 3}, 6), ({"train": 9, "test": 1}, 2)],
)
def test_folder_is_judged_on_test_else_validation_else_whole(
    make_folder: MakeFolder, splits: dict[str, int], judged: int
) -> None:
    table = evaluate(small_convnet(2).eval(), folder_spec(make_folder(splits=splits)), attacks=[])
    assert table["n_examples"].tolist() == [judged]
    assert "drawn" not in str(table["verdict_reasons"].tolist())


def test_folder_with_training_images_alone_is_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(HarnessError, match="expected a folder test or validation for a finished model"):
        evaluate(small_convnet(2).eval(), folder_spec(make_folder(splits={"train": 9})), attacks=[])


def test_rows_on_images_drawn_from_the_training_images_say_so() -> None:
    table = evaluate(small_convnet(10).eval(), "digits", attacks="fgsm", limit=20)
    assert all("drawn from the training images" in reasons for reasons in table["verdict_reasons"])


def test_number_that_is_place_and_name_is_refused_unless_both_are_one_class(make_folder: MakeFolder) -> None:
    data, network = folder_spec(make_folder(splits={"": 2}, classes=("0", "1", "2", "10"))), small_convnet(4).eval()

    def aim(target: Any) -> str:
        table = evaluate(network, data, attacks="fgsm", threat_model=AIMED[0], target_class=target)
        return str(table["target_class"].iloc[1])

    with pytest.raises(HarnessError, match=r'target_class: expected .* as a text, "2" or "10", got the number 2'):
        aim(2)
    assert [aim(target) for target in ("2", "10", 1, 3)] == ["2", "10", "1", "2"]


def test_target_counts_in_either_form_of_its_name(make_folder: MakeFolder) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Purée") for form in ("NFC", "NFD"))
    data = folder_spec(make_folder(splits={"": 2}, classes=("Leek", decomposed)))
    for target in (composed, decomposed):
        table = evaluate(small_convnet(2).eval(), data, attacks="fgsm", threat_model=AIMED[0], target_class=target)
        assert table["target_class"].iloc[1] == composed
