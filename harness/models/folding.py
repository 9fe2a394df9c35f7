"""BatchNorm folded into the convolution before it: which pairs can be folded, and the folded weights.

In eval mode a batch norm is a map of each channel, y = gamma (x - mean) / std + beta. Behind a convolution x = w * image + b it
is one convolution with the weights w gamma / std and the bias (b - mean) gamma / std + beta.
"""

from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, NamedTuple, cast

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
BATCH_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
"""Exact types that are folded: a subclass may compute with its weights in another way."""

BiasOrder = Literal["by_scale", "by_factors"]
"""What b - mean is multiplied by: the product gamma / std, or 1 / std and then gamma. The two differ by rounding only. Each
caller keeps its order, as another one would change the last digits of stored results."""


class FoldedWeights(NamedTuple):
    """The weights of a convolution and the batch norm after it, as one convolution."""

    weight: Tensor
    """(O, I, kh, kw)."""
    bias: Tensor
    """(O,)."""


def folded(convolution: nn.Conv2d, batch_norm: nn.BatchNorm2d, *, bias_order: BiasOrder) -> FoldedWeights:
    """Returns the weights of the one convolution that computes what two layers compute, in the number format of the first.

    To be called without gradients, or with both layers frozen.

    Args:
        convolution: The convolution, with or without a bias.
        batch_norm: The batch norm after it, with running statistics, with or without gamma and beta.
        bias_order: See `BiasOrder`.
    """
    mean, variance = cast(Tensor, batch_norm.running_mean), cast(Tensor, batch_norm.running_var)
    inverse_std = (variance + batch_norm.eps).rsqrt()
    weight, bias, gamma, beta = convolution.weight, convolution.bias, batch_norm.weight, batch_norm.bias
    scale = inverse_std if gamma is None else inverse_std * gamma
    shift = (0 if bias is None else bias) - mean
    scaled = shift * scale if bias_order == "by_scale" or gamma is None else shift * inverse_std * gamma
    return FoldedWeights(
        weight=(weight * scale.view(-1, 1, 1, 1)).to(weight.dtype),
        bias=(scaled if beta is None else scaled + beta).to(weight.dtype),
    )


def replace_pair(network: nn.Module, convolution: str, batch_norm: str, weights: FoldedWeights) -> nn.Conv2d:
    """Returns a convolution of a network, which now has the given weights, frozen; its batch norm is taken out of the network.

    What timm builds into a batch norm, dropout and activation, stays.

    Args:
        network: The network, changed in place.
        convolution: The convolution's name.
        batch_norm: The batch norm's name.
        weights: What to give the convolution; other layers that share its present weights keep them.
    """
    layer = cast(nn.Conv2d, network.get_submodule(convolution))
    layer.weight, layer.bias = (nn.Parameter(tensor, requires_grad=False) for tensor in weights)
    network.set_submodule(batch_norm, _without_norm(network.get_submodule(batch_norm)))
    return layer


def fold_batchnorm(network: nn.Module, probe: Tensor) -> int:
    """Returns how many batch norms of a network were folded into the convolution that each directly follows, in place.

    Args:
        network: A network in eval mode whose parameters are frozen.
        probe: A few images (n, C, H, W).
    """
    pairs = foldable_pairs(network, probe)
    for convolution, batch_norm in pairs:
        layers = cast(nn.Conv2d, network.get_submodule(convolution)), cast(nn.BatchNorm2d, network.get_submodule(batch_norm))
        replace_pair(network, convolution, batch_norm, folded(*layers, bias_order="by_factors"))
    return len(pairs)


def foldable_pairs(network: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Returns the names of convolutions whose output goes into one batch norm and nowhere else, and of that norm.

    They are found in the autograd graph of a forward pass, so they also hold for other weights and statistics than the
    present ones: before training, a wrong fold would not change the logits.

    Args:
        network: The network in eval mode, its parameters frozen.
        example: A few images (N, 3, H, W).
    """
    made: dict[str, Any] = {}
    taken: dict[str, Any] = {}
    calls: Counter[str] = Counter()

    def record(nodes: dict[str, Any], name: str, tensor: Tensor) -> None:
        nodes[name] = tensor.grad_fn
        calls[name] += 1

    with ExitStack() as hooks:
        for name, module in network.named_modules():
            if type(module) in CONVOLUTIONS:
                hook = partial(lambda name, _, __, output: record(made, name, output), name)
                hooks.enter_context(module.register_forward_hook(hook))
            elif type(module) in BATCH_NORMS and module.running_mean is not None:
                pre_hook = partial(lambda name, _, inputs: record(taken, name, inputs[0]), name)
                hooks.enter_context(module.register_forward_pre_hook(pre_hook))
        logits = network(example.detach().requires_grad_())
    uses = _uses(logits.grad_fn)
    sources = {node: name for name, node in made.items() if calls[name] == 1 and uses[node] == 1}
    return [(sources[node], name) for name, node in taken.items() if node in sources and calls[name] == 1]


def _uses(result: Any) -> Counter[Any]:
    """Returns how often each node of an autograd graph is used by another one."""
    uses: Counter[Any] = Counter()
    pending = [] if result is None else [result]
    while pending:
        for source, _ in pending.pop().next_functions:
            if source is not None:
                if source not in uses:
                    pending.append(source)
                uses[source] += 1
    return uses


def _without_norm(batch_norm: nn.Module) -> nn.Module:
    """Returns what is left of a folded batch norm, in eval mode: timm's have dropout and activation built in."""
    rest = nn.Sequential(batch_norm.drop, batch_norm.act) if isinstance(batch_norm, BatchNormAct2d) else nn.Identity()
    return rest.eval()
