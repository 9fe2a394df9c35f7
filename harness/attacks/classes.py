"""How many classes a network tells apart, for attacks that need to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def count_classes(model: nn.Module, x: Tensor, *, attack: str, least: int = 2) -> int:
    """Returns the number of classes K, by one forward pass of one image; of each where passes are counted by example.

    Raises:
        HarnessError: if it is less than the attack's loss needs.
    """
    from harness.system.by_example import is_by_example

    with torch.no_grad():
        classes = int(model(x if is_by_example() else x[:1]).shape[1])
    if classes < least:
        raise HarnessError(f"attacks.{attack}: expected a model with at least {least} classes, got {classes}")
    return classes
