"""Memory that is too short for a batch: half of it, all begun again."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor, nn

import harness
from harness.datasets.tensors import TensorSplit
from harness.errors import HarnessError
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.records import Outcome
from tests.attacks.nets import attack_of, threat
from tests.hungry import ERRORS, Hungry

BUDGETS = tuple(threat(eps) for eps in ("1/255", "8/255"))


def same(found: Outcome, expected: Outcome) -> bool:
    pairs = zip(found.conditions, expected.conditions, strict=True)
    return np.array_equal(found.clean_logits, expected.clean_logits) and all(
        np.array_equal(one.logits, other.logits)
        and np.array_equal(one.is_adversarial, other.is_adversarial)
        and (one.forwards, one.backwards) == (other.forwards, other.backwards)
        and one.evidence.batch_size == other.evidence.batch_size
        for one, other in pairs
    )


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("batch_size", [None, 32])
def test_clean_images_are_judged_in_batches_that_fit(
    net: nn.Module, split: TensorSplit, error: str, batch_size: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    found = evaluate_clean(Hungry(net, 9, error=error), split, batch_size=batch_size)
    assert same(found, evaluate_clean(net, split, batch_size=8))
    assert found.conditions[0].evidence.batch_size == 8
    assert "clean images: out of memory with batches of 16 images" in caplog.text


@pytest.mark.parametrize("protocol", ["nested", "independent", "bisect"])
@pytest.mark.parametrize("spared", [0, 12], ids=["at once", "amid the attack"])
def test_a_sweep_gives_what_it_gives_with_the_smaller_batch(
    net: nn.Module, split: TensorSplit, protocol: str, spared: int
) -> None:
    settings = SweepSettings(attack_of("pgd", steps=3), BUDGETS, protocol=protocol, seed=7)
    expected = sweep(net, split, settings, batch_size=10)
    kept: dict[tuple[Fraction, int], NDArray[np.float32]] = {}

    def keep(eps: Fraction, rows: NDArray[np.int64], x: Tensor) -> None:
        kept.update({(eps, row): image for row, image in zip(rows.tolist(), x.numpy().copy(), strict=True)})

    found = sweep(Hungry(net, 10, spared=spared), split, settings, batch_size=20, keep=keep)
    assert same(found, expected)
    assert {it.evidence.batch_size for it in found.conditions} == {10}
    images: dict[tuple[Fraction, int], NDArray[np.float32]] = {}
    sweep(
        net,
        split,
        settings,
        batch_size=10,
        keep=lambda eps, rows, x: images.update(
            {(eps, row): image for row, image in zip(rows.tolist(), x.numpy().copy(), strict=True)}
        ),
    )
    assert kept.keys() == images.keys()
    assert all(np.array_equal(kept[key], images[key]) for key in kept)


@pytest.mark.parametrize("attack", ["apgd-ce", "square", "deepfool", "hop_skip_jump"])
def test_every_kind_of_attack_goes_on_in_batches_that_fit(net: nn.Module, split: TensorSplit, attack: str) -> None:
    norm = "L2" if attack in ("deepfool", "hop_skip_jump") else "Linf"
    fields = {"hop_skip_jump": {"queries": 40, "initial_queries": 10}, "square": {"queries": 20}}.get(attack, {})
    settings = SweepSettings(attack_of(attack, **fields), (threat("1/2" if norm == "L2" else "8/255", norm=norm),))
    few = TensorSplit(split.images[:6], split.labels[:6])
    found = sweep(Hungry(net, 2), few, settings)
    assert found.conditions[0].evidence.batch_size <= 2


def test_a_network_that_has_room_for_no_image_is_refused_in_one_line(net: nn.Module, split: TensorSplit) -> None:
    with pytest.raises((HarnessError, RuntimeError)) as caught:
        evaluate_clean(Hungry(net, 0, spared=5), split)
    assert len(str(caught.value).splitlines()) == 1
    assert "memory" in str(caught.value)


def test_evaluate_says_which_batch_it_used(net: nn.Module, split: TensorSplit, caplog: pytest.LogCaptureFixture) -> None:
    data = (split.images, Tensor(split.labels.tolist()).long())
    rows = harness.evaluate(Hungry(net, 7), data, attacks="pgd", batch_size=32)
    expected = harness.evaluate(net, data, attacks="pgd", batch_size=4)
    assert set(rows["status"]) == {"done"}
    assert rows["robust_accuracy"].iloc[1] == expected["robust_accuracy"].iloc[1]
    assert "clean images: out of memory with batches of 32 images" in caplog.text
    assert "pgd: out of memory with batches of 32 images" in caplog.text
