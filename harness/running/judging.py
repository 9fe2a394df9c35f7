"""What `harness judge` finds out about a model before it attacks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.models.base import told_before
from harness.planning.data_checks import UNKNOWN_DATA, given_step
from harness.system.lazy import torch

if TYPE_CHECKING:
    from harness.suites.suite import Suite

PROBES, SEED = 2, 0
"""Random images that are passed forward and back."""


def lacks_gradients(suite: Suite) -> bool:
    """Returns whether no gradient passes through one of the finished models of a suite; nothing is logged.

    Raises:
        HarnessError: if the folder of images is missing, or a model does not fit it.
    """
    from harness.models.safeguards import WithoutGradient, safeguarded

    class_names, side = suite.dataset.look(), suite.dataset.resolution
    if class_names is None:  # nothing is known of the data before it is loaded
        return False
    images = torch.rand(PROBES, 3, side, side, generator=torch.Generator().manual_seed(SEED))
    for label in suite.finished:
        with told_before():
            model = given_step(suite, label, UNKNOWN_DATA, class_names).built(class_names)
            if isinstance(safeguarded(model, images), WithoutGradient):
                return True
    return False
