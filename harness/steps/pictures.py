"""Pictures of changed images beside the unchanged ones, for the report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from harness.images import ImageSplit
    from harness.records import Outcome

SIDE = 96
"""Least side length of an image in a picture, in pixels; small ones are enlarged by a whole factor."""
GAP = 4
"""Pixels between two images."""
EXAMPLES = 8
"""Attacked examples that a picture shows at most."""


@dataclass(frozen=True)
class PicturedExample:
    """An example of a picture of attacked images, as the file beside it tells of it."""

    example_id: str
    label: int
    clean_prediction: int
    prediction: int
    """Predicted class of the attacked image."""
    smallest_eps: float | None
    """Smallest budget of the sweep at which it is adversarial; None at none."""


def picture_of(pairs: Iterable[tuple[Tensor, Tensor]]) -> Image.Image:
    """Returns a picture of changed images, a column each: clean, changed, and the difference.

    The difference is absolute, and as bright as its largest value over all examples allows.

    Args:
        pairs: Clean and changed images (3, R, R) in [0,1], at least one pair.
    """
    pairs = tuple(pairs)
    differences = [(changed - clean).abs() for clean, changed in pairs]
    brightest = max(float(difference.max()) for difference in differences) or 1.0
    scale = max(1, -(-SIDE // pairs[0][0].shape[-1]))
    columns = [
        torch.stack([clean, changed, difference / brightest])
        for (clean, changed), difference in zip(pairs, differences, strict=True)
    ]
    images = torch.stack(columns).repeat_interleave(scale, dim=-1).repeat_interleave(scale, dim=-2)
    side = images.shape[-1] + GAP
    canvas = Image.new("RGB", (side * len(columns) - GAP, side * 3 - GAP), "white")
    pixels = (images * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()
    for column, of_example in enumerate(pixels):
        for row, image in enumerate(of_example):
            canvas.paste(Image.fromarray(image), (column * side, row * side))
    return canvas


def write_picture(
    path: Path,
    examples: ImageSplit,
    x_adv: NDArray[np.float32],
    rows: list[int],
    *,
    outcome: Outcome,
    predicted: NDArray[np.int64],
) -> None:
    """Writes a picture of some attacked examples, and beside it a .json that says what they are.

    Args:
        path: The file, a .png.
        examples: All clean examples.
        x_adv: Attacked images (n, 3, R, R) of the rows.
        rows: Places of the n examples.
        outcome: What the attack achieved on all.
        predicted: Classes (N,) of all attacked images.
    """
    picture_of([(examples[row][0], torch.from_numpy(x)) for row, x in zip(rows, x_adv, strict=True)]).save(path)
    clean, smallest = outcome.clean_logits.argmax(axis=1), outcome.smallest_eps
    found = [
        PicturedExample(
            examples.ids[row],
            int(outcome.labels[row]),
            int(clean[row]),
            int(predicted[row]),
            float(smallest[row]) if math.isfinite(smallest[row]) else None,
        )
        for row in rows
    ]
    path.with_suffix(".json").write_text(json.dumps([asdict(it) for it in found], indent=1) + "\n")


def pictured(outcome: Outcome, predicted: NDArray[np.int64]) -> list[int]:
    """Returns the places of up to `EXAMPLES` examples that are right when clean: one of each class, adversarial ones first."""
    right = np.flatnonzero(outcome.clean_logits.argmax(axis=1) == outcome.labels)
    ordered = sorted(right.tolist(), key=lambda row: (predicted[row] == outcome.labels[row], row))
    turns = [0] * (int(outcome.labels.max()) + 1)
    place: dict[int, int] = {}
    for row in ordered:
        label = int(outcome.labels[row])
        place[row] = turns[label]
        turns[label] += 1
    fair = sorted(ordered, key=lambda row: (place[row], predicted[row] == outcome.labels[row], row))
    return sorted(fair[:EXAMPLES])
