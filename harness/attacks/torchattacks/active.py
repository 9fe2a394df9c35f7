"""Which examples of a batch an attack of our own loops goes on with."""

from torch import Tensor, nn

from harness.attacks.watcher import Watcher


def still_active(model: nn.Module, wanted: Tensor) -> Tensor:
    """Returns which examples of the last batch to go on with, a mask (n,): those `wanted` (n,) that have no adversarial.

    The watcher expects these alone from then on, in their order. Where it knows of no adversarial, or is in doubt whose the
    images are, it goes by the length and content of later batches, see `Origins`.
    """
    active = model.active() if isinstance(model, Watcher) else None
    chosen = wanted if active is None else wanted & active
    if isinstance(model, Watcher) and model.by_example:  # then whose images come next is told, never guessed
        model.go_on_with(model.origins.last[0][chosen])
    return chosen
