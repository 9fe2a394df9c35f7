import pytest
import torch
from torch import nn

from harness.system.modes import frozen_parameters, guarded


@pytest.fixture
def network() -> nn.Module:
    """One layer with weights of inference mode, one that is frozen, and one as usual."""
    with torch.inference_mode():
        made_inside = nn.Linear(2, 2)
    return nn.Sequential(made_inside, nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)).eval()


def test_weights_made_in_inference_mode_are_given_back_as_they_were(network: nn.Module) -> None:
    before = [parameter.requires_grad for parameter in network.parameters()]
    assert before == [True, True, False, False, True, True]
    with frozen_parameters(network):
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert [parameter.requires_grad for parameter in network.parameters()] == before
    assert not torch.is_inference_mode_enabled()


def test_an_error_inside_leaves_no_weight_frozen(network: nn.Module) -> None:
    before = [parameter.requires_grad for parameter in network.parameters()]
    with pytest.raises(ZeroDivisionError), guarded(network):
        raise ZeroDivisionError
    assert [parameter.requires_grad for parameter in network.parameters()] == before
