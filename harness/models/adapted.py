"""A finished network with its adapter around it: normalised RGB images to logits, in the order of the data's classes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from harness.errors import ModelError
from harness.models.adapter import LOGITS, SIGMOID

RED, GREEN, BLUE = 0.299, 0.587, 0.114
"""Their parts of the luminance; ITU-R BT.601, as Pillow's mode "L" has them. They add up to 1."""


class Adapted(nn.Module):
    """A network between a change of its images and a choice of its logits.

    Args:
        network: Maps normalised images (N, C, H, W) to anything that holds logits (N, M).
        output: Where they are, see `Adapter.output`.
        channels: C, 1 or 3.
        columns: For each class of the data, its place among the M logits; None where they are the same.
    """

    columns: Tensor | None

    def __init__(self, network: nn.Module, *, output: int | str | None, channels: int, columns: Sequence[int] | None) -> None:
        """See the class."""
        super().__init__()
        self.network, self.output, self.channels = network, output, channels
        self.register_buffer("columns", None if columns is None else torch.tensor(columns), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for normalised images (N, 3, H, W)."""
        logits = chosen(self.network(luminance(x) if self.channels == 1 else x), self.output)
        return logits if self.columns is None else logits.index_select(1, self.columns)


def luminance(x: Tensor) -> Tensor:
    """Returns grey images (N, 1, H, W) of RGB images (N, 3, H, W); those that are grey keep their values."""
    return RED * x[:, 0:1] + GREEN * x[:, 1:2] + BLUE * x[:, 2:3]


def chosen(found: object, output: int | str | None) -> Tensor:
    """Returns the logits (N, M) in what a network gives.

    Args:
        found: The output.
        output: Where they are, see `Adapter.output`.

    Raises:
        ModelError: if there is no tensor.
    """
    if output == SIGMOID:
        return _of_two_classes(_tensor(found, output))
    is_itself = output is None or (output == LOGITS and isinstance(found, Tensor))
    return _tensor(found if is_itself else _inside(found, output), output)


def _inside(found: object, place: int | str | None) -> object:
    try:
        if isinstance(place, int):
            return found[place]  # type: ignore[index]
        return found[place] if isinstance(found, Mapping) else getattr(found, str(place))
    except (LookupError, AttributeError, TypeError) as error:
        raise ModelError(f"output: expected {place!r} in what the network gives, got {described(found)}") from error


def _tensor(found: object, output: int | str | None) -> Tensor:
    if not isinstance(found, Tensor):
        raise ModelError(f"output: expected a tensor at {output!r}, got {described(found)}")
    return found


def _of_two_classes(logit: Tensor) -> Tensor:
    """Returns logits (N, 2) whose softmax gives the second class the sigmoid of a logit (N,) or (N, 1)."""
    if logit.dim() not in (1, 2) or (logit.dim() == 2 and logit.shape[1] != 1):
        raise ModelError(f"output: expected one number an image at {SIGMOID!r}, got shape {tuple(logit.shape)}")
    column = logit.reshape(-1, 1)
    return torch.cat([torch.zeros_like(column), column], dim=1)


def described(found: object) -> str:
    """Returns the form of an output in words: its type, its shape, its keys."""
    if isinstance(found, Tensor):
        return f"a tensor of shape {tuple(found.shape)}"
    if isinstance(found, Mapping):
        return f"a mapping with {', '.join(repr(key) for key in list(found)[:5])}"
    if isinstance(found, tuple | list):
        return f"a {type(found).__name__} of {len(found)}"
    names = [name for name, value in getattr(found, "__dict__", {}).items() if isinstance(value, Tensor)]
    return f"a {type(found).__name__}" + (f" with {', '.join(names[:5])}" if names else "")


def hint(found: object, *, expected: int) -> str:
    """Returns which adapter would make an output one tensor of logits; empty where none does.

    Args:
        found: What the network gives for two images.
        expected: Number of its classes.
    """
    if isinstance(found, Mapping):
        return f"; `output: {_first_tensor(found)}` takes one of them"
    if isinstance(found, tuple | list):
        return "; `output: 0` takes the first of them"
    if not isinstance(found, Tensor):
        names = [name for name, value in getattr(found, "__dict__", {}).items() if isinstance(value, Tensor)]
        return f"; `output: {LOGITS if LOGITS in names else names[0]}` takes one of them" if names else ""
    if found.shape[1:] in ((), (1,)) and expected == 2:
        return f"; `output: {SIGMOID}` takes it for the logit of the second class"
    if found.dim() == 2 and found.shape[1] > 1:
        return f"; `classes:` names the {found.shape[1]} classes of the network in the order of its logits"
    return ""


def _first_tensor(found: Mapping[object, object]) -> object:
    tensors = [key for key, value in found.items() if isinstance(value, Tensor)]
    return LOGITS if LOGITS in tensors else next(iter(tensors), "KEY")
