"""A network in another runtime that decides, with a network of PyTorch that is differentiated in its place."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.models.classifier import Classifier
from harness.models.copying import deep_copy


class ReferenceLogits(torch.autograd.Function):
    """The logits of the reference model, with the gradient of another network's logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, values: Tensor) -> Tensor:
        """Returns the reference model's logits `values` (N, K) in place of `logits` (N, K)."""
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient as it comes."""
        return gradients[0], None


class ReferenceClassifier(Classifier):
    """A reference model outside of PyTorch: its own logits always, and the gradient of another network where one is asked for.

    Args:
        reference: Computes without autograd.
        differentiated: Images (N, 3, H, W) in [0,1] to nearly the same logits; None where there is no such network.
        obstacle: Why there is none.
    """

    def __init__(self, reference: Classifier, differentiated: nn.Module | None, *, obstacle: str = "") -> None:
        """See the class."""
        mean, std = (values.flatten().tolist() for values in (reference.mean, reference.std))
        super().__init__(reference.backbone, mean=mean, std=std, class_names=reference.class_names)
        self.differentiated, self.obstacle, self.training = differentiated, obstacle, False

    def forward(self, x: Tensor) -> Tensor:
        """See `Classifier.forward`."""
        with torch.no_grad():
            values = super().forward(x.detach())
        if self.differentiated is None or not (torch.is_grad_enabled() and x.requires_grad):
            return values
        return cast(Tensor, ReferenceLogits.apply(self.differentiated(x), values))


def reference_parts(model: nn.Module) -> list[ReferenceClassifier]:
    """Returns the parts of a network that another runtime computes."""
    return [module for module in model.modules() if isinstance(module, ReferenceClassifier)]


def differentiated(model: nn.Module) -> nn.Module | None:
    """Returns the network that attacks differentiate: itself, where PyTorch computes all of it.

    A part in another runtime is replaced by the network that is differentiated in its place; None where it has none.
    """
    parts = reference_parts(model)
    if any(part.differentiated is None for part in parts):
        return None
    return deep_copy(model, {id(part): part.differentiated for part in parts}) if parts else model
