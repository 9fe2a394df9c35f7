from collections import OrderedDict

import torch
from torch import nn

from harness.models.copying import deep_copy, sharing_copy


def test_copy_has_its_own_modules_and_weights_but_for_what_is_stood_in_for() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    weight = nn.Parameter(torch.zeros_like(net[0].weight))
    copied = deep_copy(net, {id(net[0].weight): weight})
    assert copied[0].weight is weight
    assert copied[0].bias is not net[0].bias
    assert torch.equal(copied[0].bias, net[0].bias)
    assert copied[1].running_mean.data_ptr() != net[1].running_mean.data_ptr()


def test_empty_dictionaries_of_hooks_are_not_shared() -> None:
    net = nn.Sequential(nn.ReLU(), nn.ReLU())
    copied, seen = deep_copy(net, {}), []
    copied[0].register_forward_hook(lambda *_: seen.append("copy"))
    net(torch.ones(1))
    assert not seen
    copied(torch.ones(1))
    assert seen == ["copy"]
    assert type(vars(copied[1])["_forward_hooks"]) is OrderedDict


def test_a_sharing_copy_shares_what_is_named_and_has_its_own_of_the_rest() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    copied = sharing_copy(net, [net[0].weight], [net[1].running_mean])
    assert copied[0].weight.data_ptr() == net[0].weight.data_ptr()
    assert copied[1].running_mean is net[1].running_mean
    assert copied[0].bias.data_ptr() != net[0].bias.data_ptr()
    assert [name for name, weight in copied.named_parameters() if not weight.requires_grad] == ["0.weight"]
    assert all(weight.requires_grad for weight in net.parameters())
