"""`harness.evaluate`: any module, any data, without a suite."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from harness import ThreatModel, evaluate
from harness.errors import HarnessError
from harness.records import CELL_COLUMNS
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
