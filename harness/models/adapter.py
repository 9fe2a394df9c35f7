"""How a finished network takes its images and gives its answer, where that is not RGB in [0,1] and one tensor of logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from harness.errors import ModelError
from harness.images import composed
from harness.spec import Spec
from harness.system.messages import shown

Channels = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]
LOGITS = "logits"
"""Key or attribute under which many libraries give them."""
SIGMOID = "sigmoid"


def parse_output(value: object) -> object:
    """Returns a place or a key of an output as it is.

    Raises:
        ValueError: if it is neither.
    """
    if value is None:
        return None
    is_place = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not is_place and not (isinstance(value, str) and value):
        raise ValueError(f"expected {LOGITS}, {SIGMOID}, a place from 0 on or a key, got {shown(value)}")
    return value


Output = Annotated[int | str | None, BeforeValidator(parse_output)]


class InputForm(Spec):
    """The images that a finished network takes, made from RGB images in [0,1]."""

    range: tuple[float, float] | None = None
    """The values of black and of white: [0, 255], or [-1, 1]. Without mean and std nothing else is done to them."""
    channels: Literal[1, 3] = 3
    """Channels of an image; 1 is the luminance of ITU-R BT.601, which leaves grey images as they are."""
    mean: Channels | None = None
    """Per-channel mean in the units of `range`, in place of the architecture's; it comes with std."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Per-channel standard deviation in the units of `range`."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range: expected the value of black below that of white, got {list(self.range)}")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std: expected both or neither, got one of them")
        if self.channels == 1 and self.mean is None and self.range is None:
            raise ValueError("channels: expected range, or mean and std, beside 1, as those of an architecture are of colours")
        return self

    def normalisation(self, stated: tuple[Sequence[float], Sequence[float]]) -> tuple[Sequence[float], Sequence[float]]:
        """Returns mean and std in pixel units of [0,1].

        Args:
            stated: Those of the architecture, in pixel units of [0,1]; used where this form names neither range nor mean.
        """
        if self.range is None and self.mean is None:
            return stated
        black, white = self.range or (0.0, 1.0)
        mean, std = self.mean or (0.0,) * 3, self.std or (1.0,) * 3
        return [(it - black) / (white - black) for it in mean], [it / (white - black) for it in std]


class Adapter(Spec):
    """What stands around a finished network; by default nothing."""

    output: Output = None
    """Where the logits are in what the network gives: a place in a tuple, a key of a mapping, an attribute such as "logits"; or
    "sigmoid": it gives one number, before its sigmoid, for the second of two classes. Left out, it gives the logits alone."""
    input: InputForm = InputForm()
    """The images that it takes."""
    classes: tuple[str, ...] | None = None
    """Names of its classes, in the order of its logits; the data's where they are left out."""

    def identity(self) -> dict[str, Any]:
        """Returns the fields that are not the default, in plain JSON values, for digests."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Returns the names of the network's classes in the order of its logits.

        Args:
            class_names: The classes of the data, in the order of their indices.

        Raises:
            ModelError: if a class of the data is none of the network's.
        """
        if self.classes is None:
            return tuple(class_names)
        if absent := [name for name in class_names if name not in self.classes]:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise ModelError(
                f"classes: expected all classes of the data among the {len(self.classes)} of the network, "
                f"found no {absent[0]!r}{more}"
            )
        return self.classes


def checked_classes(names: Sequence[str], *, where: str) -> tuple[str, ...]:
    """Returns class names in composed form.

    Raises:
        ModelError: if there are fewer than two, or one occurs twice; begins with `where`.
    """
    found = tuple(composed(name) for name in names)
    if len(found) < 2:
        raise ModelError(f"{where}: expected two or more class names, found {len(found)}")
    if twice := [name for place, name in enumerate(found) if name in found[:place]]:
        raise ModelError(f"{where}: expected each class once, found {twice[0]!r} twice")
    return found


def read_classes_file(path: str) -> tuple[str, ...]:
    """Returns the class names in a text file: one a line, in the order of the logits; empty lines are left out.

    Raises:
        ModelError: if it cannot be read, has fewer than two names, or one twice.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        found = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: expected a text file with a class name a line, found {found}") from error
    return checked_classes([line.strip() for line in lines if line.strip()], where=path)
