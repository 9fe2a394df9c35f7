"""The arguments of `harness.evaluate`, which may be given in several forms: checked, and read into one."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Real
from typing import get_args

import torch
from torch import nn

from harness.attacks.base import ATTACKS, Attack
from harness.errors import HarnessError, SuiteError, naming
from harness.images import composed, misread
from harness.records import Protocol
from harness.spec import suggestion
from harness.system.messages import shown
from harness.threat import ThreatModel

LARGEST_SEED = 2**63 - 1
"""Tables keep seeds as signed integers of 64 bits."""

AttackLike = str | Mapping[str, object] | Attack
ThreatLike = str | float | Fraction | Mapping[str, object] | ThreatModel


def check_types(model: object, protocol: object) -> None:
    """Does nothing if the model is a network and the protocol a known one.

    Raises:
        HarnessError: if not.
    """
    if not isinstance(model, nn.Module):
        hint = "; its module() is one" if isinstance(model, torch.export.ExportedProgram) else ""
        raise HarnessError(f"model: expected a torch.nn.Module, got {type(model).__name__}{hint}")
    if protocol not in get_args(Protocol):
        raise HarnessError(f"protocol: expected {' or '.join(get_args(Protocol))}, got {protocol!r}")


def check_numbers(*, limit: object, batch_size: object, seed: object) -> None:
    """Does nothing if each is a whole number, or None, and the seed fits in a table.

    Raises:
        HarnessError: if not.
    """
    for name, value in {"limit": limit, "batch_size": batch_size, "seed": seed}.items():
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool)):
            raise HarnessError(f"{name}: expected a whole number, got {value!r}")
    if isinstance(seed, Integral) and not 0 <= int(seed) <= LARGEST_SEED:
        raise HarnessError(f"seed: expected 0 to {LARGEST_SEED}, got {seed}")


def rising(threat_model: object, target_class: object) -> list[ThreatModel]:
    """Returns the budgets of a sweep, smallest first.

    Raises:
        HarnessError: if one is none, or they do not fit each other or the target class.
    """
    targeted = target_class is not None
    threats = [_threat(value, targeted=targeted) for value in _listed(threat_model, (str, Mapping, ThreatModel))]
    if len({threat.targeted for threat in threats}) > 1:
        raise HarnessError("threat_model: expected all of them targeted or none, got both")
    norms = {threat.norm for threat in threats}
    if len(norms) != 1:
        raise HarnessError(f"threat_model: expected one or more of the same norm, got {', '.join(sorted(norms)) or 'none'}")
    if len({threat.eps for threat in threats}) < len(threats):
        raise HarnessError(f"threat_model: expected different budgets, got {', '.join(str(threat.eps) for threat in threats)}")
    if threats[0].targeted != (target_class is not None):
        wanted = (
            "the class that the targeted threat_model aims at" if threats[0].targeted else "ThreatModel(targeted=True) beside it"
        )
        raise HarnessError(f"target_class: expected {wanted}, got {target_class!r}")
    return sorted(threats, key=lambda threat: threat.eps)


def target_index(wanted: object, class_names: Sequence[str]) -> int | None:
    """Returns the place among the logits of a class that is given by that place or by its name.

    Raises:
        HarnessError: if there is no such class.
    """
    if wanted is None:
        return None
    if isinstance(wanted, Integral) and not isinstance(wanted, bool) and 0 <= int(wanted) < len(class_names):
        if other := misread(int(wanted), class_names):
            raise HarnessError(f"target_class: {other}")
        return int(wanted)
    wanted = composed(wanted) if isinstance(wanted, str) else wanted
    if not isinstance(wanted, str) or wanted not in class_names:
        near = suggestion(str(wanted), class_names)
        raise HarnessError(f"target_class: expected 0 to {len(class_names) - 1} or a class name, got {wanted!r}{near}")
    return class_names.index(wanted)


def labelled(attacks: object) -> dict[str, Attack]:
    """Returns the attacks under their names; a second one of the same name gets a number.

    Raises:
        HarnessError: if one is unknown, or a field of it is not valid.
    """
    labelled: dict[str, Attack] = {}
    for value in _listed(attacks, (str, Mapping, Attack)):
        attack = ATTACKS.parse_argument(value, name="attacks")
        same = sum(known.name == attack.name for known in labelled.values())
        labelled[attack.name if same == 0 else f"{attack.name}-{same + 1}"] = attack
    return labelled


def check_budgets(attacks: Mapping[str, Attack], threats: Sequence[ThreatModel]) -> None:
    """Does nothing if the fields of the attacks fit the budgets.

    Raises:
        HarnessError: if not.
    """
    for label, attack in attacks.items():
        try:
            attack.check_budgets([threat.eps for threat in threats])
        except ValueError as problem:
            raise HarnessError(f"attacks.{label}.{problem}") from problem


def _threat(value: object, *, targeted: bool) -> ThreatModel:
    """Returns a threat model, or the one that a budget or its fields stand for."""
    if isinstance(value, ThreatModel):
        return value
    with naming("threat_model: ", SuiteError):
        if isinstance(value, Mapping):
            return ThreatModel(**{"targeted": targeted, **{str(name): found for name, found in value.items()}})
        if isinstance(value, str | Real) and not isinstance(value, bool):
            return ThreatModel(eps=value, targeted=targeted)
    raise HarnessError(f'threat_model: expected a budget such as "8/255", or ThreatModel(eps="8/255"), got {shown(value)}')


def _listed(values: object, single: tuple[type, ...]) -> list[object]:
    """Returns several values, or the only one, which may be iterable itself if it is `single`, or an array without axes."""
    if getattr(values, "ndim", None) == 0 and hasattr(values, "item"):
        return [values.item()]
    return list(values) if isinstance(values, Iterable) and not isinstance(values, single) else [values]
