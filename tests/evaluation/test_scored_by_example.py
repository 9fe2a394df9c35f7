"""The logits of an image that is scored by example depend on no other one: any permutation and any split gives the same rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.utils import save_image

from harness.corruptions.base import CORRUPTIONS
from harness.corruptions.stream import CorruptedSplit
from harness.datasets.image_folder import read_class_folders
from harness.datasets.splits import take
from harness.datasets.tensors import TensorSplit
from harness.evaluation.clean import completed, evaluate_clean
from harness.evaluation.parts import merged
from harness.images import ImageSplit
from harness.records import Outcome
from tests.attacks.nets import conv_net

COUNT, BATCH, SIDE = 11, 4, 20
SHUFFLED = np.random.default_rng(0).permutation(COUNT).tolist()
CUTS = ([range(COUNT)], [range(COUNT - 1), [COUNT - 1]], [range(5), range(5, 9), range(9, COUNT)])


@pytest.fixture(scope="module")
def few() -> TensorSplit:
    """Images that the net gets right, two of them equal."""
    x = torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    x[7] = x[2]
    with torch.no_grad():
        return TensorSplit(x, conv_net()(x).argmax(dim=1))


@pytest.fixture(scope="module")
def photographs(few: TensorSplit, tmp_path_factory: pytest.TempPathFactory) -> ImageSplit:
    """The same as files of other sizes."""
    root = tmp_path_factory.mktemp("photographs")
    for place in range(COUNT):
        image, label = few[place]
        (root / f"class{label}").mkdir(exist_ok=True)
        save_image(image[:, : SIDE - place % 3], root / f"class{label}" / f"{place:02d}.png")
    return read_class_folders(Path(root), [f"class{label}" for label in range(4)], resolution=16)


def _scored(split: ImageSplit, whole: ImageSplit, **changes: int) -> Outcome:
    return evaluate_clean(conv_net(), split, whole=whole, **{"batch_size": BATCH, "probes": 0, **changes})


def _logits(split: ImageSplit, whole: ImageSplit) -> NDArray[np.float32]:
    outcome = _scored(split, whole)
    np.testing.assert_array_equal(outcome.clean_logits, outcome.conditions[0].logits)
    return outcome.clean_logits


@pytest.mark.parametrize("order", [SHUFFLED, SHUFFLED[:5], SHUFFLED[5:], [0]])
def test_any_permutation_and_any_split_of_a_folder_give_the_same_rows(order: Sequence[int], photographs: ImageSplit) -> None:
    expected = _logits(photographs, photographs)[order]
    np.testing.assert_array_equal(_logits(take(photographs, order), photographs), expected)


@pytest.mark.parametrize("name", CORRUPTIONS.names())
def test_any_permutation_and_any_split_of_a_corruption_give_the_same_rows(name: str, few: TensorSplit) -> None:
    corruption = CORRUPTIONS.parse({"name": name})

    def corrupted(split: ImageSplit) -> ImageSplit:
        return CorruptedSplit(corruption, split, severity=corruption.LEVELS, seed=3)

    expected = _logits(corrupted(few), few)
    for order in (SHUFFLED, SHUFFLED[:5], [0]):
        np.testing.assert_array_equal(_logits(corrupted(take(few, order)), few), expected[order])


def test_without_the_whole_batches_are_those_that_there_are(few: TensorSplit) -> None:
    sizes: list[int] = []
    network = conv_net()
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    evaluate_clean(network, few, batch_size=BATCH, probes=0)
    assert sizes[-3:] == [4, 4, 3]
    sizes.clear()
    evaluate_clean(network, few, batch_size=BATCH, probes=0, whole=few)
    assert sizes[-3:] == [4, 4, 4]


def test_full_batches_have_the_logits_that_they_have_without_the_whole(few: TensorSplit) -> None:
    full = COUNT // BATCH * BATCH
    plain = evaluate_clean(conv_net(), few, batch_size=BATCH, probes=0).clean_logits
    np.testing.assert_array_equal(_logits(few, few)[:full], plain[:full])


@pytest.mark.parametrize("cut", CUTS)
def test_parts_with_the_probes_of_the_whole_are_one_step(cut: Sequence[Sequence[int]], few: TensorSplit) -> None:
    whole = _scored(few, few, probes=16)
    found = completed(conv_net(), few, merged([_scored(take(few, rows), few) for rows in cut]), batch_size=BATCH)
    assert found.conditions[0].evidence == whole.conditions[0].evidence
    assert found.conditions[0].evidence.network.probed > 0
    assert found.conditions[0].evidence.network.batch_tried > 0
    np.testing.assert_array_equal(found.clean_logits, whole.clean_logits)
    np.testing.assert_array_equal(found.labels, whole.labels)
