"""An exponential moving average of the weights."""

import copy

import torch
from torch import nn


class Average:
    """A network whose weights and statistics are a moving average of a live network's.

    The decay after t steps is min(decay, (1 + t) / (10 + t)), so that the first weights have little part in the average of
    a short training.

    Source: Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"; the growing decay as in
        TensorFlow's ExponentialMovingAverage; for adversarial training Gowal et al. 2020,
        https://arxiv.org/abs/2010.03593, section 4.6.

    Args:
        live: The network that is trained.
        decay: The largest decay of a step.
    """

    def __init__(self, live: nn.Module, decay: float) -> None:
        """See the class."""
        self.network = copy.deepcopy(live).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, live: nn.Module) -> None:
        """Updates the average with the live network's weights and statistics."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for average, tensor in zip(self.network.state_dict().values(), live.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(tensor, 1 - decay)
            else:
                average.copy_(tensor)
