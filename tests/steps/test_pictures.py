"""Pictures of attacked images, and which examples they show."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from harness.datasets.tensors import TensorSplit
from harness.records import ConditionResult, Outcome
from harness.spec import parse_eps
from harness.steps.pictures import EXAMPLES, GAP, SIDE, picture_of, pictured, write_picture


def outcome_of(labels: list[int], clean: list[int], smallest: list[float]) -> Outcome:
    logits = np.eye(max(labels) + 1, dtype=np.float32)[clean]
    found = ConditionResult(parse_eps("8/255"), logits, np.zeros(len(labels), bool), np.zeros(len(labels), np.float32))
    return Outcome(np.array(labels), logits, (found,), np.array(smallest, np.float32))


def test_difference_is_as_bright_as_its_largest_value_allows() -> None:
    clean = torch.full((3, 32, 32), 0.5)
    changed = clean.clone()
    changed[:, 0, 0] += 0.1
    changed[:, 0, 1] -= 0.05
    picture = np.asarray(picture_of([(clean, changed), (clean, clean)]))
    scale = SIDE // 32
    assert picture.shape == (3 * SIDE + 2 * GAP, 2 * SIDE + GAP, 3)
    difference = picture[2 * (SIDE + GAP) :, :SIDE]
    assert [difference[0, place * scale, 0] for place in (0, 1, 2)] == [255, 128, 0]
    assert picture[2 * (SIDE + GAP) :, SIDE + GAP :].max() == 0, "the second example is unchanged"


def test_examples_are_right_when_clean_spread_over_classes_and_adversarial_first() -> None:
    labels = [0, 0, 0, 1, 1, 2]
    outcome = outcome_of(labels, [0, 0, 1, 1, 1, 2], [np.inf] * 6)
    predicted = np.array([0, 1, 1, 1, 0, 2])
    assert pictured(outcome, predicted) == [0, 1, 3, 4, 5], "the third one is wrong from the start"
    many = outcome_of(list(range(10)) * 5, list(range(10)) * 5, [np.inf] * 50)
    chosen = pictured(many, np.array([*range(10)] * 4 + [(label + 1) % 10 for label in range(10)]))
    assert len(chosen) == EXAMPLES
    assert all(place >= 40 for place in chosen), "those are adversarial"
    assert len({place % 10 for place in chosen}) == EXAMPLES


def test_file_beside_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    split = TensorSplit(x, torch.tensor([0, 1]))
    outcome = outcome_of([0, 1], [0, 1], [4 / 255, np.inf])
    write_picture(tmp_path / "0.png", split, x.numpy(), [0, 1], outcome=outcome, predicted=np.array([1, 1]))
    first, second = json.loads((tmp_path / "0.json").read_text())
    assert (first["label"], first["clean_prediction"], first["prediction"]) == (0, 0, 1)
    assert abs(first["smallest_eps"] - 4 / 255) < 1e-7
    assert second["smallest_eps"] is None
    assert Image.open(tmp_path / "0.png").size == (2 * SIDE + GAP, 3 * SIDE + 2 * GAP)
