import pytest
import torch
from torch import nn

from harness.errors import ModelError
from harness.models.classifier import Classifier
from harness.models.fitting import head_names, load_into
from harness.models.timm import Timm
from tests.nets import small_convnet

HEAD = "8"


def filled(num_classes: int) -> nn.Module:
    torch.manual_seed(7)
    return small_convnet(num_classes)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "_orig_mod.module.", "module.backbone."])
def test_prefixes_of_wrappers_are_stripped(prefix: str) -> None:
    given, model = filled(3).state_dict(), small_convnet(3)
    load_into(model, {prefix + name: tensor for name, tensor in given.items()}, allow_new_head=False)
    assert all(torch.equal(tensor, given[name]) for name, tensor in model.state_dict().items())


def test_networks_own_name_that_looks_like_a_prefix_is_kept() -> None:
    model = nn.ModuleDict({"model": nn.Linear(2, 3)})
    load_into(model, {"model.weight": torch.ones(3, 2), "model.bias": torch.ones(3)}, allow_new_head=False)
    assert model["model"].weight.sum() == 6


def test_state_of_a_classifier_fills_another_ones_backbone_only() -> None:
    def wrap(net: nn.Module, mean: float) -> Classifier:
        return Classifier(net, mean=[mean] * 3, std=[1.0] * 3, class_names="abc")

    model = wrap(small_convnet(3), mean=0.5)
    load_into(model, wrap(filled(3), mean=0.1).state_dict(), allow_new_head=False)
    assert torch.equal(model.backbone[0].weight, filled(3)[0].weight)
    assert model.mean.unique().tolist() == [0.5]


def test_head_of_another_class_count_is_left_new_and_named() -> None:
    model = small_convnet(5)
    head = model[8].weight.clone()
    dropped = load_into(model, filled(3).state_dict(), allow_new_head=True)
    assert dropped == ("8.weight", "8.bias")
    assert torch.equal(model[8].weight, head)
    assert torch.equal(model[0].weight, filled(3)[0].weight)


def test_head_of_the_same_class_count_is_loaded() -> None:
    model = small_convnet(3)
    assert load_into(model, filled(3).state_dict(), allow_new_head=True) == ()
    assert torch.equal(model[8].weight, filled(3)[8].weight)


def test_wrong_class_count_names_the_head_where_it_must_fit() -> None:
    with pytest.raises(
        ModelError, match=r"2 of another shape \(8.weight: expected 5x128, got 3x128, 8.bias: expected 5, got 3\)"
    ):
        load_into(small_convnet(5), filled(3).state_dict(), allow_new_head=False)


def test_missing_and_unexpected_names_are_counted_and_the_first_ones_shown() -> None:
    state = {f"layer{index}.weight": torch.zeros(1) for index in range(12)}
    with pytest.raises(ModelError, match=r"14 missing \(0.weight, 0.bias, 1.weight, \.\.\.\); 12 unexpected \(layer0.weight, "):
        load_into(small_convnet(3), state, allow_new_head=True)


def test_state_that_does_not_fit_changes_nothing() -> None:
    model = small_convnet(3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = dict(filled(3).state_dict())
    del state["0.bias"]
    with pytest.raises(ModelError, match=r"1 missing \(0.bias\)"):
        load_into(model, state, allow_new_head=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_missing_count_of_batches_is_no_difference() -> None:
    state = {name: tensor for name, tensor in filled(3).state_dict().items() if "num_batches" not in name}
    assert load_into(small_convnet(3), state, allow_new_head=False) == ()


def test_head_is_the_one_timm_states_or_else_the_last_linear_layer() -> None:
    assert head_names(Timm(arch="test_efficientnet").backbone(3)) == ("classifier",)
    assert head_names(small_convnet(3)) == (HEAD,)
