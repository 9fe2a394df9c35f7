"""torchattacks' APGD, which tells whose images it goes on with where that must not be guessed from the images."""

from typing import Any

import torchattacks
from torch import Tensor

from harness.system.by_example import go_on_with_copies


class AnnouncedAPGD(torchattacks.APGD):  # type: ignore[misc]  # the library has no types
    """torchattacks' APGD: it attacks only the examples that its own first pass found correct."""

    def attack_single_run(self, x_in: Tensor, y_in: Tensor) -> Any:
        """See `torchattacks.APGD.attack_single_run`."""
        go_on_with_copies(x_in)
        return super().attack_single_run(x_in, y_in)


class AnnouncedAPGDT(torchattacks.APGDT):  # type: ignore[misc]  # the library has no types
    """torchattacks' APGDT: each target class is for the examples that those before it left."""

    def attack_single_run(self, x_in: Tensor, y_in: Tensor) -> Any:
        """See `torchattacks.APGDT.attack_single_run`."""
        go_on_with_copies(x_in)
        return super().attack_single_run(x_in, y_in)
