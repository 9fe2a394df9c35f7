"""Activation checkpointing: the backward pass computes activations again that are else kept in memory from the forward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from harness.models.network import Network

CONTAINERS = (nn.Sequential, nn.ModuleList)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Returns the blocks that a network is a sequence of: items of its containers that have layers of their own.

    Of blocks inside one another the outermost counts. A stage, which holds a container of nothing but blocks, is none.
    """
    found: list[nn.Module] = []
    for child in model.children():
        is_block = isinstance(model, CONTAINERS) and _is_composite(child) and not any(map(_is_sequence, child.children()))
        found += [child] if is_block else blocks_of(child)
    return found


def _is_composite(module: nn.Module) -> bool:
    return any(module.children()) and not isinstance(module, CONTAINERS)


def _is_sequence(module: nn.Module) -> bool:
    """Returns whether a module is a container of nothing but blocks."""
    return isinstance(module, CONTAINERS) and any(module.children()) and all(map(_is_composite, module.children()))


def checkpointed(network: Network, model: nn.Module) -> Network:
    """Returns a network that keeps the inputs of its blocks for the backward pass, and what is inside one block at a time.

    Outputs, gradients and running statistics are those of `network`, bit for bit. A backward pass takes longer, by the time of a
    forward pass.

    Args:
        network: Images to logits, by the modules of `model`.
        model: The modules.

    Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174, section 4, with a network's own blocks as segments; computed by
    `torch.utils.checkpoint`.
    """
    blocks = blocks_of(model)

    def forward(x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return network(x)
        with _recomputing(blocks):
            return network(x)

    return forward


@contextmanager
def _recomputing(blocks: list[nn.Module]) -> Iterator[None]:
    """Replaces the forward method of each block inside the `with`; the backward pass may run after it."""
    own = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=partial(_contexts, block))
    try:
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            del block.forward  # back to that of its class
            if forward is not None:
                block.forward = forward


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Returns the contexts of a block's two computations: running statistics are updated in the first alone."""
    return nullcontext(), _kept_statistics(block)


@contextmanager
def _kept_statistics(block: nn.Module) -> Iterator[None]:
    """Leaves the running statistics of a block as they are; batches are normalised by their own statistics all the same."""
    norms = [(module, module.momentum) for module in block.modules() if isinstance(module, _NormBase)]
    counts = [module.num_batches_tracked for module, _ in norms if module.num_batches_tracked is not None]
    before = [count.clone() for count in counts]
    for module, _ in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in norms:
            module.momentum = momentum
        for count, value in zip(counts, before, strict=True):
            count.copy_(value)
