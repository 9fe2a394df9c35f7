"""Which batch norms can be multiplied into the convolution before them without changing what the network computes."""

from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
BATCH_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
"""Exact types that are folded: a subclass may compute with its weights in another way."""


def foldable_pairs(network: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Returns the names of convolutions whose output goes into one batch norm and nowhere else, and of that norm.

    It is read off the autograd graph of a forward pass, so it also holds for weights and statistics other than the
    present ones: before training, a wrong fold would not show in the logits.

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


def without_norm(batch_norm: nn.Module) -> nn.Module:
    """Returns what is left of a folded batch norm, in eval mode: timm's have dropout and activation built in."""
    rest = nn.Sequential(batch_norm.drop, batch_norm.act) if isinstance(batch_norm, BatchNormAct2d) else nn.Identity()
    return rest.eval()
