"""The optimiser of a recipe, and its learning rate as a function of the step, so that a schedule has no state to save."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.training.recipes.base import Optimiser

WEIGHT_DECAY = {"adamw": 0.05, "sgd": 5e-4}
RISE = 0.3
"""Share of the one-cycle schedule in which the learning rate rises."""
FIRST = 1 / 25
"""The one-cycle schedule's first learning rate, relative to its largest; Smith and Topin 2018,
https://arxiv.org/abs/1708.07120, with the values that torch's OneCycleLR made customary."""
LAST = FIRST / 1e4
"""The one-cycle schedule's last learning rate, relative to its largest."""


def make_optimiser(spec: Optimiser, model: nn.Module) -> torch.optim.Optimizer:
    """Returns the optimiser over the parameters that require gradients; biases and norms (one axis) do not decay."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decay = WEIGHT_DECAY[spec.name] if spec.weight_decay is None else spec.weight_decay
    groups = [
        {"params": [parameter for parameter in wanted if parameter.ndim > 1], "weight_decay": decay},
        {"params": [parameter for parameter in wanted if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(parameter.device.type in {"cpu", "cuda"} for parameter in wanted)
    if spec.name == "adamw":
        return torch.optim.AdamW(groups, lr=spec.learning_rate, fused=fused)
    return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=spec.momentum, nesterov=True, fused=fused)


def learning_rate(spec: Optimiser, step: int, total: int) -> float:
    """Returns the learning rate of a step, counted from 0, of `total` steps."""
    done = step / max(total - 1, 1)
    if spec.schedule == "constant":
        return spec.learning_rate
    if spec.schedule == "cosine":
        return spec.learning_rate * _cosine(1, 0, step / total)
    if done < RISE:
        return spec.learning_rate * _cosine(FIRST, 1, done / RISE)
    return spec.learning_rate * _cosine(1, LAST, (done - RISE) / (1 - RISE))


def _cosine(start: float, end: float, share: float) -> float:
    """Returns a value between `start` and `end`, along half a cosine wave; `share` is from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the optimiser's state as flat tensors: "<number of the parameter>.<name>"."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": torch.as_tensor(value) for number, values in state.items() for name, value in values.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Loads a state from `optimiser_tensors`.

    Each tensor gets the strides of its parameter, as fused kernels require.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        like = parameters[int(number)]
        value = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
