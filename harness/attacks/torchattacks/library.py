"""How torchattacks is called: detached results, quiet modes, seeds from our generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from harness.system.lazy import LazyModule, torch

if TYPE_CHECKING:
    from torch import Tensor

torchattacks: Any = LazyModule("torchattacks")
"""The library, imported when an attack runs; it has no types."""


def run_library(attack: Any, x: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """Runs a torchattacks attack; `y` are the wanted classes where `targeted`."""
    if targeted:
        attack.set_mode_targeted_by_label(quiet=True)
    return cast("Tensor", attack(x, y)).detach()


def draw_seed(generator: torch.Generator) -> int:
    """Returns a seed for attacks that seed the global generators themselves."""
    return int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
