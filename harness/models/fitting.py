"""Loads a state of other origin into a network: without the prefixes of wrappers, and without a head of other classes."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from harness.errors import ModelError
from harness.models.classifier import Classifier

logger = logging.getLogger(__name__)

NORMALISATION = frozenset({"mean", "std"})
"""Buffers of `Classifier` in front of its backbone."""
SHOWN = 3
"""How many names of a kind an error lists."""


class StateDifferences(NamedTuple):
    """How a state differs from the one that a network needs."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]
    """"name: expected 2x3, got 2x4"."""

    def __str__(self) -> str:
        """Returns the counts with the first few names of each kind."""
        kinds = zip(("missing", "unexpected", "of another shape"), self, strict=True)
        return "; ".join(f"{len(names)} {kind} ({few(names)})" for kind, names in kinds if names)


def load_into(
    model: nn.Module, state: Mapping[str, Tensor], *, allow_new_head: bool, other_classes: bool = False
) -> tuple[str, ...]:
    """Loads a state into a network, and returns the names of the head's tensors that it left as they were.

    Args:
        model: The network, or a `Classifier`, whose backbone gets the state and whose normalisation stays.
        state: Name -> tensor, with or without the prefixes of common wrappers.
        allow_new_head: Leave the head as it is where the state's has another number of classes.
        other_classes: The state is known to be of other classes: its head is left out even if it fits.

    Raises:
        ModelError: if names are missing or unexpected, shapes differ, or a tensor holds NaN; the network is unchanged then.
    """
    network = model.backbone if isinstance(model, Classifier) else model
    wanted = network.state_dict()
    given = _stripped(state, wanted)
    head = _head_tensors(network) if allow_new_head else []
    dropped = tuple(name for name in head if name in given and (other_classes or _differs(name, given, wanted)))
    differences = _differences(given, {name: tensor for name, tensor in wanted.items() if name not in dropped}, dropped)
    if any(differences):
        raise ModelError(str(differences))
    kept = {name: tensor for name, tensor in given.items() if name not in dropped}
    if with_nan := [name for name, tensor in kept.items() if tensor.isnan().any()]:
        raise ModelError(f"{len(with_nan)} with NaN ({few(with_nan)})")
    network.load_state_dict({**wanted, **kept})
    if prefix := _prefix_of(state, given):
        logger.info("the prefix %r is taken from the names of the weights", prefix)
    if dropped:
        logger.warning("the head is new, as the weights are for other classes: %s", ", ".join(dropped))
    return dropped


def head_names(network: nn.Module) -> tuple[str, ...]:
    """Returns the names of the layers that give the logits: as timm states them, else the last linear layer."""
    stated = (getattr(network, "pretrained_cfg", None) or {}).get("classifier")
    if stated:
        return (stated,) if isinstance(stated, str) else tuple(stated)
    return tuple(name for name, module in network.named_modules() if isinstance(module, nn.Linear))[-1:]


def classes_of_head(network: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Returns the number of logits of the head in a state for a network, with or without wrappers' prefixes; None if unknown."""
    given = _stripped(state, network.state_dict())
    sizes = {given[name].shape[0] for name in _head_tensors(network) if name in given and given[name].dim()}
    return next(iter(sizes)) if len(sizes) == 1 else None


def _head_tensors(network: nn.Module) -> list[str]:
    prefixes = tuple(f"{name}." if name else "" for name in head_names(network))
    return [name for name in network.state_dict() if name.startswith(prefixes)] if prefixes else []


def _differs(name: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return given[name].shape[:1] != wanted[name].shape[:1]


def _stripped(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the state without those prefixes whose removal gives most of the wanted names."""
    candidates = [dict(state)]
    while (shorter := _without_a_prefix(candidates[-1])) is not None:
        candidates.append(shorter)
    best = max(candidates, key=lambda names: len(names.keys() & wanted.keys()))
    return {name: tensor for name, tensor in best.items() if name in wanted or name not in NORMALISATION}


def _prefix_of(state: Mapping[str, Tensor], stripped: Mapping[str, Tensor]) -> str:
    """Returns what the names of a state have before those of the same state without prefixes."""
    whole, short = (next((name for name in names if name not in NORMALISATION), "") for names in (state, stripped))
    return whole.removesuffix(short) if short else ""


def _without_a_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Returns a state without the first part of its names, where all have the same; wrappers put it there.

    Such as `module.` of data parallelism, `_orig_mod.` of torch.compile, `backbone.` of this harness, `model.` of other trainers.
    """
    names = [name for name in state if name not in NORMALISATION]
    prefix, dot, _ = names[0].partition(".") if names else ("", "", "")
    if not dot or not all(name.startswith(f"{prefix}.") for name in names):
        return None
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in state.items()}


def _differences(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], ignored: Sequence[str]) -> StateDifferences:
    """Returns the differences in names and shapes; a batch norm's count of batches may be missing, as older files lack it."""
    return StateDifferences(
        missing=[name for name in wanted if name not in given and not name.endswith("num_batches_tracked")],
        unexpected=[name for name in given if name not in wanted and name not in ignored],
        shapes=[
            f"{name}: expected {_shape(tensor)}, got {_shape(given[name])}"
            for name, tensor in wanted.items()
            if name in given and given[name].shape != tensor.shape
        ],
    )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def few(names: Sequence[str]) -> str:
    """Returns the first few names of a list, for a message."""
    return ", ".join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])
